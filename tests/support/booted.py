"""A machine that boots: a Debian tree under ``systemd-nspawn --boot``, with a Placement on its loopback.

What is waited for is said by systemd itself: that it is up, by the container's own READY=1; the rest, by its journal.
"""

import contextlib
import json
import os
import queue
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.debian import PROJECT, REPOSITORY, large_debian, require, unpack, wheels

SOURCES = (
    "bringup",
    "daemon",
    "drivers",
    "placement",
    "polkit",
    "systemd",
    "requirements",
    "pyproject.toml",
    "constraints.txt",
    "README.md",
    "LICENSE",
)
PROGRAMS = ("mmdebstrap", "systemd-nspawn", "nsenter", "ip", "unshare", "mount")
HAS_LIBVIRT = "libvirt" in PROJECT["optional-dependencies"]
PATIENCE_S = 180.0
"""How long a boot or an entry of the journal is waited for, on a machine that is busy too."""
REBOOTED = 133
# Hybrid cgroups, as on the machine of the tests, are no good inside: a plain cgroup2, a cgroup of its own.
BOOT = f"""
mount --make-rprivate / && umount -l /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir /sys/fs/cgroup/$CGROUP && echo $$ > /sys/fs/cgroup/$CGROUP/cgroup.procs
while :; do "$@" </dev/null; code=$?; [ $code = {REBOOTED} ] || exit $code; done
"""
UNSHARED = ("unshare", "--mount", "sh", "-c")
SWEEP = """
mount --make-rprivate / && umount -l /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup
find /sys/fs/cgroup/$CGROUP -depth -type d -exec rmdir {} +
"""


def require_a_machine() -> None:
    """Skip the tests where no machine can be booted."""
    require("booting a machine", *PROGRAMS)


def make_tree(tree: Path) -> None:
    """Make a Debian with this repository in it, and beside it the packages that pip would fetch."""
    unpack(large_debian(), tree)
    source = tree / "usr/src/bringup"
    source.mkdir()
    for name in SOURCES:
        origin = REPOSITORY / name
        if origin.is_dir():
            shutil.copytree(origin, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(origin, source / name)
    shutil.copytree(wheels(), tree / "usr/src/wheels")


@dataclass
class Machine:
    """One that was booted."""

    directory: Path
    leader: int = 0
    """The PID of its PID 1, as seen from here."""
    _said: "queue.SimpleQueue[str]" = field(default_factory=queue.SimpleQueue)
    """What nspawn and its PID 1 have said."""

    @property
    def tree(self) -> Path:
        return self.directory / "tree"

    @property
    def console(self) -> Path:
        return self.directory / "console"

    def _inside(self, command: Sequence[str]) -> list[str]:
        return ["nsenter", "--target", str(self.leader), "--all", "--", *command]

    def run(self, *command: str, code: int | None = 0, **options: Any) -> str:
        """Run a command in it; return what it wrote."""
        options.setdefault("timeout", PATIENCE_S)
        ended = subprocess.run(self._inside(command), capture_output=True, text=True, check=False, **options)
        assert code in (None, ended.returncode), f"{command}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        return str(ended.stdout).strip()

    @contextlib.contextmanager
    def silent(self, path: str, *, after: str) -> Iterator[None]:
        """Provide a file whose storage answers nothing for as long as the block lasts; what makes it is run before.

        At once: who watches its folder could have taken it away.
        """
        server = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={server},rootmode=100000,user_id=0,group_id=0,allow_other"
        try:
            mount = f"{after}; exec mount --internal-only -t fuse -o {options} silent {path}"
            self.run("sh", "-euc", mount, pass_fds=(server,))
            yield
        finally:
            # Who waits for an answer hears that nobody is there any more.
            os.close(server)
            self.run("umount", "--lazy", path, code=None)

    def shell(self, script: str, **environment: str) -> str:
        """Run a script in it."""
        variables = [f"{name}={value}" for name, value in environment.items()]
        return self.run("env", "--chdir=/usr/src/bringup", *variables, "sh", "-eu", "-c", script)

    def systemctl(self, *arguments: str, code: int | None = 0) -> str:
        try:
            return self.run("systemctl", *arguments, code=code)
        except AssertionError as error:
            error.add_note(self.run("journalctl", "--no-pager", "--lines=30", code=None))
            raise

    def shown(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit."""
        lines = self.systemctl("show", unit, f"--property={','.join(names)}").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def write(self, path: str, text: str) -> None:
        """Write a file in it."""
        file = self.tree / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def entries(self, *arguments: str) -> list[dict[str, Any]]:
        """Entries of its journal."""
        lines = self.run("journalctl", "--no-pager", "--output=json", "--all", *arguments).splitlines()
        return [json.loads(line) for line in lines]

    def cursor(self) -> str:
        """Return the place where its journal ends now."""
        return str(self.entries("--lines=1")[-1]["__CURSOR"])

    def until(self, wanted: Callable[[dict[str, Any]], bool], *, after: str) -> dict[str, Any]:
        """Wait for an entry of the journal after a cursor."""
        follow = ["journalctl", "--follow", "--output=json", "--all", f"--after-cursor={after}", "--lines=all"]
        with subprocess.Popen(self._inside(follow), stdout=subprocess.PIPE) as journal:
            try:
                for line in _lines(journal, time.monotonic() + PATIENCE_S):
                    entry: dict[str, Any] = json.loads(line)
                    if wanted(entry):
                        return entry
            finally:
                journal.kill()
        raise AssertionError(f"its journal never said it: {self.run('journalctl', '--no-pager', '--lines=60')}")

    def until_up(self) -> None:
        """Wait until it has booted: a new PID 1, and then that this one is ready (it says so after each reload too)."""
        self.leader = int(self._until_said("X_NSPAWN_LEADER_PID=").partition("=")[2])
        self._until_said("READY=1")

    def _until_said(self, start: str) -> str:
        while True:
            try:
                line = self._said.get(timeout=PATIENCE_S)
            except queue.Empty:
                raise AssertionError(f"it did not boot: {self.console.read_text()[-4000:]}") from None
            if line.startswith(start):
                return line

    def listen(self, end: socket.socket) -> None:
        """Read its notifications without end: its PID 1 waits until all of them were read."""
        while message := end.recv(4096):
            for line in message.decode().splitlines():
                self._said.put(line)

    def reboot(self) -> None:
        """Shut it down cleanly, and wait until it has booted again."""
        self.systemctl("reboot", code=None)
        self.until_up()

    def soft_reboot(self) -> None:
        """Restart its user space, under the same kernel and the same PID 1, and wait until it has."""
        while not self._said.empty():
            self._said.get_nowait()
        self.systemctl("soft-reboot", code=None)
        self._until_said("READY=1")

    def power_cut(self) -> None:
        """Cut its power, and wait until it has booted again."""
        self.systemctl("reboot", "--force", "--force", code=None)
        self.until_up()


def _lines(process: "subprocess.Popen[bytes]", until: float) -> Iterator[bytes]:
    assert process.stdout is not None
    rest = b""
    while (left_s := until - time.monotonic()) > 0:
        ready, _, _ = select.select([process.stdout], [], [], left_s)
        chunk = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines


@contextlib.contextmanager
def _network(directory: Path, *, placement: bool) -> Iterator[int]:
    """Provide a network namespace with the real Placement on its loopback; yield the PID that holds it."""
    if not placement:
        command: tuple[str, ...] = ("unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec cat")
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            try:
                assert holder.stdout is not None
                assert holder.stdout.readline() == b"up\n"
                yield holder.pid
            finally:
                holder.kill()
        return
    server = (sys.executable, "-m", "bringup.daemon.cli.demo_site.placement_server", "--port", "8778")
    command = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *server)
    with (
        (directory / "placement.log").open("wb") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["url"] == "http://127.0.0.1:8778"
            yield process.pid
        finally:
            process.kill()


@contextlib.contextmanager
def booted(machine: Machine, *, placement: bool = True) -> Iterator[Machine]:
    """Boot the tree of a machine; its power is cut at the end.  Without ``placement`` it has to serve its own."""
    address = machine.directory / "notify"
    cgroup = {"CGROUP": f"bringup-tests-{os.getpid()}"}
    with contextlib.ExitStack() as opened:
        held_by = opened.enter_context(_network(machine.directory, placement=placement))
        notify = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        notify.bind(str(address))
        listener = threading.Thread(target=machine.listen, args=(notify,), daemon=True)
        listener.start()
        nspawn = ["systemd-nspawn", "--quiet", f"--directory={machine.tree}", "--register=no", "--keep-unit", "--boot"]
        nspawn += [f"--network-namespace-path=/proc/{held_by}/ns/net", "--notify-ready=yes", "--console=pipe"]
        nspawn += ["--capability=all"]
        console = opened.enter_context(machine.console.open("wb"))
        process = subprocess.Popen(
            [*UNSHARED, BOOT, "sh", *nspawn],
            env=os.environ | cgroup | {"NOTIFY_SOCKET": str(address)},
            stdout=console,
            stderr=console,
            start_new_session=True,
        )
        try:
            machine.until_up()
            yield machine
        finally:
            # What would boot it again goes first; its init then takes everything in it along.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            with contextlib.suppress(ProcessLookupError):
                if machine.leader:
                    os.kill(machine.leader, signal.SIGKILL)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                end.sendto(b"", str(address))
            listener.join(PATIENCE_S)
            subprocess.run([*UNSHARED, SWEEP], env=os.environ | cgroup, check=False, capture_output=True)
