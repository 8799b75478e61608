"""What only a newer systemd has: a soft reboot, which is another boot; lines of the unit that want BPF."""

import shutil
from collections.abc import Iterator

import pytest

from bringup.daemon.storage.boot import ASK, derive_boot_id
from support.booted import Machine, booted, require_a_machine
from support.debian import REPOSITORY, make_debian

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    require_a_machine()
    machine = Machine(tmp_path_factory.mktemp("softly"))
    # Debian 12 has no soft reboot.
    make_debian(machine.tree, ("systemd", "systemd-sysv", "dbus", "procps"), release="trixie")
    with booted(machine):
        yield machine
    shutil.rmtree(machine.directory, ignore_errors=True)


def boot_of(machine: Machine) -> tuple[str, str]:
    """Return the kernel's boot id as the machine has it, and what it is for us."""
    kernels = machine.run("cat", "/proc/sys/kernel/random/boot_id")
    told = dict(line.split("=", 1) for line in machine.run(*ASK).splitlines())
    return kernels, derive_boot_id(kernels, told)


def test_a_soft_reboot_is_another_boot_under_the_same_kernel(machine: Machine) -> None:
    """All guests are gone, the boot id of the kernel and /run are as before."""
    kernels, before = boot_of(machine)
    assert before == kernels

    machine.soft_reboot()
    once = boot_of(machine)
    machine.soft_reboot()
    twice = boot_of(machine)

    assert {once[0], twice[0]} == {kernels}
    assert len({before, once[1], twice[1]}) == 3

    machine.power_cut()
    kernels_again, again = boot_of(machine)
    assert again == kernels_again
    assert again not in {before, once[1], twice[1]}


UNIT = "bringup.service"
# A program that the unit lets run, in the daemon's place.
INSTEAD = """[Service]
Type=oneshot
ExecStart=
ExecStart=/usr/bin/kill -l
Restart=no
WatchdogSec=0
"""


def test_a_newer_systemd_knows_every_line_of_the_unit_and_starts_it_also_where_the_kernel_has_no_bpf(
    machine: Machine,
) -> None:
    machine.write(f"/etc/systemd/system/{UNIT}", (REPOSITORY / "systemd" / UNIT).read_text())
    machine.write(f"/etc/systemd/system/{UNIT}.d/instead.conf", INSTEAD)
    machine.write("/etc/sysusers.d/bringup.conf", (REPOSITORY / "systemd/sysusers.d/bringup.conf").read_text())
    machine.run("sh", "-euc", "mkdir -p /opt/bringup/bin; touch /opt/bringup/bin/bringup; systemd-sysusers")
    machine.systemctl("daemon-reload")

    machine.systemctl("start", UNIT)

    shown = machine.shown(UNIT, "Result", "ExecMainStatus", "SocketBindDeny", "RestrictFileSystems")
    assert (shown["Result"], shown["ExecMainStatus"]) == ("success", "0")
    assert "any" in shown["SocketBindDeny"]
    said = machine.run("systemd-analyze", "verify", "--recursive-errors=no", UNIT, code=None)
    assert "bringup" not in said
