"""A real libvirtd of the tests' own, with real QEMU guests of one boot sector each.

Never KVM: a device node that opens is no proof that a guest runs on it.
"""

import atexit
import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bringup.drivers.libvirt.binding import binding
from support import boot_sectors
from support.polling import PATIENCE_S, until
from support.process import children_of
from support.programs import why_missing

INIT = Path(__file__).with_name("libvirtd_init.py")
PROGRAMS = (
    "libvirtd",
    "virtlogd",
    "dbus-daemon",
    "polkitd",
    "nsenter",
    "virsh",
    "qemu-system-x86_64",
    "qemu-img",
    "ip",
    "unshare",
    "setpriv",
    "mount",
)
SECTORS = {
    "halt": boot_sectors.IGNORES_ACPI,
    "acpi": boot_sectors.OBEYS_ACPI,
    "panic": boot_sectors.PANICS,
    "sleep": boot_sectors.FALLS_ASLEEP,
}
# No cgroups: two libvirtds would kill each other's guests by them.  root: as another user it would find /dev/kvm gone.
QEMU_CONF = """
user = "root"
group = "root"
cgroup_controllers = []
security_driver = "none"
namespaces = []
"""
HOOK = """#!/bin/sh
# The hook of libvirt, "GUEST OPERATION ...": a start takes as long as storage would, or for as long as a test wants.
[ "$2" = start ] || exit 0
touch {directory}/hooked/"$1"
while [ -e {directory}/hold/"$1" ]; do sleep 0.02; done
sleep {pause_s}
"""


def missing() -> str | None:
    """Return what is missing for a libvirtd of our own; None: nothing."""
    try:
        binding()
    except ImportError as error:
        return str(error)
    why = why_missing(*PROGRAMS)
    if why is not None:
        return why
    done = subprocess.run([*namespaces("--net"), "true"], capture_output=True, check=False, text=True)
    if done.returncode:
        return f"a libvirtd of the tests' own needs namespaces (unshare -m -n -p): {done.stderr.strip()}"
    return None


def namespaces(*more: str) -> tuple[str, ...]:
    """Return the command that runs another one in namespaces that end with us, however we end; ``more`` are options."""
    unshare = ("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", *more)
    return ("setpriv", "--pdeathsig", "KILL", *unshare, "--propagation", "private")


class Libvirtd:
    """A libvirtd in a folder; it can be killed, started again, stopped for a while."""

    def __init__(
        self,
        *,
        pause_s: float | None = None,
        config: str = "",
        small: Sequence[str] = (),
        network: str = "its own",
        user: int | None = None,
        rules: Mapping[str, str] | None = None,
    ) -> None:
        """Make the folder.

        ``pause_s``: a start takes so much longer, and can be held; ``config`` is of libvirtd; ``small`` are folders of
        it with a disk of their own, which can be full; ``network`` may be "ours": the namespace of who starts it;
        ``user``: its host has a user and a group with this number; ``rules``: polkit is asked of each call, with these
        rules by file name.
        """
        # A socket's path has 107 bytes at most.
        self.directory = Path(tempfile.mkdtemp(prefix="lv-", dir="/tmp"))
        for name in ("lib", "cache", "run", "log", "images", "instances", "hold", "hooked"):
            (self.directory / name).mkdir()
        shutil.copytree("/etc/libvirt", self.directory / "etc")
        with (self.directory / "etc/qemu.conf").open("a") as file:
            file.write(QEMU_CONF)
        with (self.directory / "etc/libvirtd.conf").open("a") as file:
            file.write(f'\nauth_unix_rw = "none"\n{config}\n')
        if user is not None:
            for name, entry in (("passwd", f"x:{user}:{user}::/nonexistent:/bin/false"), ("group", f"x:{user}:")):
                known = Path("/etc", name).read_text()
                (self.directory / name).write_text(f"{known}bringup:{entry}\n")
        if rules is not None:
            with self.config.open("a") as file:
                file.write('\naccess_drivers = ["polkit"]\n')
            (self.directory / "dbus").mkdir()
            (self.directory / "rules").mkdir()
            self.directory.chmod(0o755)  # polkitd is no root
            for name, text in rules.items():
                (self.directory / "rules" / name).write_text(text)
        if pause_s is not None:
            self.hook = self.directory / "etc/hooks/qemu"
            self.hook.parent.mkdir(exist_ok=True)
            self.hook.write_text(HOOK.format(directory=self.directory, pause_s=pause_s))
            self.hook.chmod(0o755)
        for name, code in SECTORS.items():
            (self.directory / f"images/{name}.img").write_bytes(boot_sectors.image(code))
        self._is_narrow = rules is not None
        self._small = tuple(small)
        self._namespaces = () if network == "ours" else ("--net",)
        self._unshare: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.directory / "run/libvirt-sock"

    @property
    def uri(self) -> str:
        """What a driver opens."""
        return f"qemu+unix:///system?socket={self.socket}"

    @property
    def config(self) -> Path:
        """The file libvirtd.conf."""
        return self.directory / "etc/libvirtd.conf"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.directory / "log/init.log").open("ab") as log:
            self._unshare = subprocess.Popen(
                [*namespaces(*self._namespaces), sys.executable, str(INIT), str(self.directory), *self._small],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )
        self._until_it_answers()

    def stop(self) -> None:
        """End it with all its guests, and leave nothing."""
        if self._unshare is not None:
            self._unshare.kill()
            self._unshare.wait(PATIENCE_S)
            self._unshare = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def kill(self) -> None:
        """Kill libvirtd as a crash would; its guests go on."""
        pid = self._daemon()
        os.kill(pid, signal.SIGKILL)
        # Not when it is a zombie: its threads may still hold the lock on its file, and the next one would not start.
        until(lambda: not Path(f"/proc/{pid}").exists(), "the end of libvirtd")

    def start_again(self) -> None:
        """Start libvirtd after it was killed, and wait until it answers."""
        os.kill(self._init(), signal.SIGUSR1)
        self._until_it_answers()

    def end_guests(self) -> None:
        """Kill every guest, and wait until all are gone."""
        found = [child for child in children_of(self._init()) if _name_of(child).startswith("qemu-system")]
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not any(_name_of(pid) for pid in found), "the end of the guests")

    @contextlib.contextmanager
    def hung(self, name: str) -> Iterator[None]:
        """Stop the QEMU of a guest from answering for as long as the block lasts."""
        [pid] = [pid for pid in children_of(self._init()) if f"guest={name}," in _command_of(pid)]
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop libvirtd from answering for as long as the block lasts."""
        pid = self._daemon()
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Make the start of a guest hang for as long as the block lasts; needs ``pause_s``."""
        hold = self.directory / "hold" / name
        hold.touch()
        try:
            yield
        finally:
            hold.unlink(missing_ok=True)

    def within(self, name: str) -> Path:
        """Return a folder as libvirtd sees it: a small disk is in its namespace alone."""
        return Path(f"/proc/{self._init()}/root{self.directory}/{name}")

    @contextlib.contextmanager
    def full(self, name: str) -> Iterator[None]:
        """Fill a small disk for as long as the block lasts."""
        ballast = self.within(name) / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        try:
            yield
        finally:
            ballast.unlink()

    def until_start_hangs(self, name: str) -> None:
        """Wait until libvirtd is in the middle of a guest's start."""
        until((self.directory / "hooked" / name).exists, f"the start of {name}")

    @contextlib.contextmanager
    def connected(self) -> Iterator[Any]:
        """Connect as somebody else does."""
        connection = binding().open(self.uri)
        try:
            yield connection
        finally:
            connection.close()

    def define(self, uuid: str, name: str, **more: Any) -> None:
        """Define a guest; see :func:`domain_xml`."""
        with self.connected() as connection:
            connection.defineXML(domain_xml(uuid, name, images=self.directory / "images", **more))

    def _until_it_answers(self) -> None:
        libvirt = binding()

        def answers() -> bool:
            assert self._unshare is not None
            if self._is_narrow:
                if not children_of(self._unshare.pid):
                    return False
                return self.inside("virsh", "--connect", "qemu:///system", "uri").returncode == 0
            with contextlib.suppress(libvirt.libvirtError):
                libvirt.open(self.uri).close()
                return True
            return False

        try:
            until(answers, "the answer of libvirtd")
        except AssertionError as error:
            error.add_note((self.directory / "log/init.log").read_text())
            raise

    def inside(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command as root beside it: polkit knows who asks by a PID of its own namespace."""
        enter = ("nsenter", f"--target={self._init()}", "--mount", "--pid", "--net", "--")
        return subprocess.run([*enter, *command], capture_output=True, text=True, check=False)

    def _init(self) -> int:
        assert self._unshare is not None
        [init] = children_of(self._unshare.pid)
        return init

    def _find(self) -> int | None:
        return next((child for child in children_of(self._init()) if _name_of(child) == "libvirtd"), None)

    def _daemon(self) -> int:
        pid = self._find()
        assert pid is not None, "libvirtd does not run"
        return pid


def _name_of(pid: int) -> str:
    """Return the name of a program that runs; "" if it has ended."""
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        if stat.rpartition(") ")[2][0] != "Z":
            return stat.partition("(")[2].rpartition(")")[0]
    return ""


def _command_of(pid: int) -> str:
    """Return the command line of a program that runs; "" if it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    return ""


@dataclass(frozen=True)
class DomainExtras:
    """What a guest has beside a disk to start from: elements of ``os``, and of ``devices``."""

    os: str = ""
    devices: str = ""


def domain_xml(
    uuid: str,
    name: str,
    *,
    images: Path,
    guest: str = "halt",
    disk: Path | None = None,
    more: DomainExtras | None = None,
) -> str:
    """Describe a guest: what it does is a key of ``SECTORS``; ``disk`` is a disk (qcow2) beside the one it starts from.

    Without ``acpi`` it would not see the power button at all.
    """
    more = more or DomainExtras()
    second = f"""<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/>
      <target dev='hda' bus='ide'/></disk>"""
    return f"""<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>4</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type>{more.os}<boot dev='fd'/></os>
  <features><acpi/></features><pm><suspend-to-mem enabled='yes'/></pm><on_crash>preserve</on_crash>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='floppy'><driver name='qemu' type='raw'/><source file='{images}/{guest}.img'/>
      <target dev='fda' bus='fdc'/><readonly/></disk>{second if disk else ""}
    <controller type='usb' model='none'/><memballoon model='none'/><video><model type='none'/></video>
    {"<panic model='isa'/>" if guest == "panic" else ""}{more.devices}
  </devices></domain>"""


@contextlib.contextmanager
def a_libvirtd(**options: Any) -> Iterator[Libvirtd]:
    """Provide a separate libvirtd, see :class:`Libvirtd`; skip where that is not possible."""
    skip_without_libvirtd()
    server = Libvirtd(**options)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def skip_without_libvirtd() -> None:
    """Skip a test where no libvirtd can be had."""
    reason = _missing()
    if reason is not None:
        pytest.skip(reason)


@functools.cache
def _missing() -> str | None:
    return missing()


@functools.cache
def the_libvirtd() -> Libvirtd:
    """Return the libvirtd of this process, which nobody kills."""
    skip_without_libvirtd()
    server = Libvirtd()
    atexit.register(server.stop)
    server.start()
    return server
