"""Every program that tests and benchmarks call, and the Debian package that has it.

A test that starts a program which is not in this table fails: on a new machine nobody would have installed it.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest

PACKAGES: Mapping[str, str] = {
    "buildah": "buildah",
    "chromedriver": "chromium-driver",
    "chromium": "chromium",
    "dbus-daemon": "dbus-daemon",
    "dpkg-query": "dpkg",
    "env": "coreutils",
    "epmd": "rabbitmq-server",
    "gcc": "gcc",
    "git": "git",
    "haproxy": "haproxy",
    "initdb": "postgresql",
    "ip": "iproute2",
    "ldd": "libc-bin",
    "libvirt-guests.sh": "libvirt-daemon-system",
    "libvirtd": "libvirt-daemon-system",
    "losetup": "mount",
    "make": "make",
    "mariadb-install-db": "mariadb-server-core",
    "mariadbd": "mariadb-server-core",
    "mmdebstrap": "mmdebstrap",
    "mount": "mount",
    "my_print_defaults": "mariadb-client-core",
    "nft": "nftables",
    "nsenter": "util-linux",
    "ovs-vsctl": "openvswitch-switch",
    "ovs-vswitchd": "openvswitch-switch",
    "ovsdb-server": "openvswitch-switch",
    "ovsdb-tool": "openvswitch-switch",
    "pg_basebackup": "postgresql-client-common",
    "pgbouncer": "pgbouncer",
    "podman": "podman",
    "polkitd": "polkitd",
    "postgres": "postgresql",
    "qemu-ga": "qemu-guest-agent",
    "qemu-img": "qemu-utils",
    "qemu-nbd": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "rabbitmq-server": "rabbitmq-server",
    "rabbitmqctl": "rabbitmq-server",
    "runc": "runc",
    "setpriv": "util-linux",
    "sh": "dash",
    "systemd-analyze": "systemd",
    "systemd-nspawn": "systemd-container",
    "tar": "tar",
    "true": "coreutils",
    "umount": "mount",
    "uname": "coreutils",
    "unshare": "util-linux",
    "virsh": "libvirt-clients",
    "virtlogd": "libvirt-daemon-system",
}
# Debian keeps these off the PATH of a user, or of everybody.
OFF_THE_PATH = (
    "/usr/local/sbin",
    "/usr/sbin",
    "/sbin",
    "/usr/lib/rabbitmq/bin",
    "/usr/lib/libvirt",
    "/usr/lib/polkit-1",
    *(str(folder) for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)),
)
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), *OFF_THE_PATH))
OF_THE_SYSTEM = ("/usr/", "/bin/", "/sbin/")


def _fail_for(program: str) -> NoReturn:
    pytest.fail(f"{program} is not in support/programs.py: add it, with the Debian package that has it")


def find(program: str) -> str | None:
    """Return the path of a program; None: it is not installed."""
    if program not in PACKAGES:
        _fail_for(program)
    return shutil.which(program, path=PATH)


def path_of(program: str) -> str:
    """Return the path of a program; skip the test where it is not installed."""
    needs(program)
    found = find(program)
    assert found is not None
    return found


def why_missing(*programs: str) -> str | None:
    """Return the packages that are not installed; None: all are."""
    packages = sorted({PACKAGES[program] for program in programs if find(program) is None})
    return f"not installed: {', '.join(packages)} (see .ci/packages)" if packages else None


def needs(*programs: str) -> None:
    """Skip the test where a program is not installed."""
    why = why_missing(*programs)
    if why is not None:
        pytest.skip(why)


def run(*command: str | Path, **options: Any) -> str:
    """Run a command; return what it wrote."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert ended.returncode == 0, f"{command}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    return str(ended.stdout)


def _is_named(executable: str) -> bool:
    found = executable if os.sep in executable else shutil.which(executable, path=PATH) or ""
    name = Path(executable).name
    # What is installed in an environment or made by a test is no package's.
    return not found.startswith(OF_THE_SYSTEM) or name in PACKAGES or name.startswith("python")


def _only_what_is_named(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen" and not _is_named(os.fsdecode(arguments[0])):
        _fail_for(os.fsdecode(arguments[0]))


def pytest_configure() -> None:
    """Watch every process that this one starts, whoever starts it."""
    sys.addaudithook(_only_what_is_named)
