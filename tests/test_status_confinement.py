"""What the process that answers cannot do, on the kernel that runs here, and what is told where that cannot be kept."""

import json
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from errno import EACCES, ENOSYS, EPERM
from pathlib import Path

import pytest

from bringup.daemon.status.endpoint.unconfined import MEANS
from bringup.daemon.status.listener import confinement, system_calls
from bringup.daemon.status.listener.confinement import (
    LANDLOCK_ADD_RULE,
    LANDLOCK_CREATE_RULESET,
    LANDLOCK_RESTRICT_SELF,
)
from support.process import ENVIRONMENT
from support.surroundings import Within, refused

TRIES = """
import ctypes, fcntl, json, mmap, os, resource, socket, subprocess, sys, threading
from bringup.daemon.status.listener import confinement, start
mine, given = sys.argv[1], int(sys.argv[2])
# The daemon has the same user and as few capabilities: nothing but the confinement stands between the two.
start.drop_capabilities()
child = os.fork()
if child:
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
parent = os.getppid()
pipe = os.dup(1)
libc = ctypes.CDLL(None, use_errno=True)
listener = socket.socket(fileno=given)
lacks = start.strip() | confinement.confine()

def started():
    thread = threading.Thread(target=len, args=("",))
    thread.start()
    thread.join()

def refused(result):
    if result < 0:
        raise PermissionError

def sent():
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    pair[0].sendto(b"x", "/run/systemd/journal/socket")

tries = {
    "read": lambda: open(mine).read(),
    "list": lambda: os.listdir(os.path.dirname(mine)),
    "environment": lambda: open(f"/proc/{parent}/environ").read(),
    "memory": lambda: open(f"/proc/{parent}/mem", "rb"),
    "write": lambda: open(mine, "w"),
    "append": lambda: open(mine, "a"),
    "make": lambda: open(mine + "2", "x"),
    "make a folder": lambda: os.mkdir(mine + "3"),
    "rename": lambda: os.rename(mine, mine + "4"),
    "change its mode": lambda: os.chmod(mine, 0),
    "remove": lambda: os.remove(mine),
    "write memory": lambda: open(f"/proc/{parent}/mem", "rb+"),
    "lock": lambda: fcntl.flock(0, fcntl.LOCK_EX),
    "signal": lambda: os.kill(parent, 0),
    "signal a group": lambda: os.killpg(os.getpgid(0), 0),
    "have a signal sent": lambda: fcntl.fcntl(given, fcntl.F_SETOWN, parent),
    "have another signal sent": lambda: fcntl.fcntl(given, fcntl.F_SETSIG, 9),
    "have a signal sent by ioctl": lambda: fcntl.ioctl(given, 0x8901, parent.to_bytes(4, "little")),
    "a socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "connect": lambda: socket.socket(socket.AF_UNIX).connect("/run/libvirt/libvirt-sock"),
    "send to any": sent,
    "shut the listener": lambda: listener.shutdown(socket.SHUT_RDWR),
    "starve the listener": lambda: listener.listen(0),
    "filter the listener": lambda: listener.setsockopt(socket.SOL_SOCKET, 26, b"x" * 16),
    "program": lambda: subprocess.run([sys.executable, "-c", ""]),
    "become another program": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
    "a process": lambda: os.fork() or os._exit(0),
    "trace": lambda: refused(libc.ptrace(16, parent, 0, 0)),
    "limits of the daemon": lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE),
    "turn of the daemon": lambda: os.setpriority(os.PRIO_PROCESS, parent, 19),
    "scheduler of the daemon": lambda: os.sched_setscheduler(parent, os.SCHED_OTHER, os.sched_param(0)),
    "processors of the daemon": lambda: os.sched_setaffinity(parent, {0}),
    "memory that no limit counts": lambda: mmap.mmap(-1, 1 << 20, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS),
    "a file in memory": lambda: os.memfd_create("x"),
    "a namespace": lambda: refused(libc.unshare(0x10000000)),
}
wanted = {
    "a pair of sockets": lambda: [each.close() for each in socket.socketpair()],
    "a thread": started,
    "what is imported later": lambda: __import__("bringup.daemon.status.listener.app"),
    "the page": lambda: __import__("bringup.daemon.status.listener.page", fromlist=["page"]).page(),
    "the clock of the parent": lambda: open(f"/proc/{parent}/stat").read(),
    "its own limits": lambda: resource.getrlimit(resource.RLIMIT_NOFILE),
    "some memory": lambda: bytes(32 << 20),
}
if "system_calls" in lacks:
    # The others would be done.
    tries = {name: tries[name] for name in ("read", "list", "memory", "environment", "append", "make", "program")}
found = {}
for name, attempt in (tries | wanted).items():
    try:
        attempt()
        found[name] = True
    except OSError:
        found[name] = False
refusals = confinement.end_threads()
try:
    started()
    found["a thread, then"] = True
except RuntimeError:
    found["a thread, then"] = False
os.write(pipe, json.dumps([lacks | refusals, found, sorted(wanted)]).encode())
"""
FILES = {"read", "list", "environment", "memory"}
"""What Landlock alone keeps from it."""


class Tried:
    """What became of each attempt."""

    def __init__(self, directory: Path, *calls: Sequence[int]) -> None:
        mine = directory / "file"
        mine.touch()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            command = [sys.executable, "-c", TRIES, str(mine), str(listener.fileno())]
            done = subprocess.run(
                [*(Within(refused, *calls).command if calls else ()), *command],
                capture_output=True,
                text=True,
                env=ENVIRONMENT,
                check=False,
                pass_fds=(listener.fileno(),),
            )
        assert done.returncode == 0, done.stderr
        lacks, found, wanted = json.loads(done.stdout)
        self.lacks: dict[str, str] = lacks
        self.refused = {name for name, could in found.items() if not could} - set(wanted)
        self.could = {name for name, could in found.items() if could} - set(wanted)
        self.lost = {name for name in wanted if not found[name]}
        self.left = sorted(path.name for path in directory.iterdir())


MACHINE = system_calls.MACHINES[os.uname().machine]
PRCTL, SECCOMP, PRLIMIT = (system_calls.number_of(name, MACHINE) for name in ("prctl", "seccomp", "prlimit64"))
CAPSET = {"x86_64": 126, "aarch64": 91}[os.uname().machine]
NOTHING = {
    "no_new_privs": os.strerror(EPERM),
    "landlock": os.strerror(EPERM),
    "system_calls": os.strerror(EACCES),
    "threads": os.strerror(EACCES),
}
"""Both of the others want it of who has no capability."""
NO_NEW_PRIVS, SET_SECCOMP = (PRCTL, EPERM, 0, 38), (PRCTL, EPERM, 0, 22)


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Tried:
    return Tried(tmp_path_factory.mktemp("state"))


def test_confined_process_touches_no_file_process_or_foreign_socket(tried: Tried) -> None:
    if tried.lacks == {"landlock": os.strerror(ENOSYS)}:
        pytest.skip("this kernel has no Landlock")
    assert (tried.lacks, tried.could, tried.left) == ({}, set(), ["file"])


def test_confined_process_can_serve(tried: Tried) -> None:
    assert tried.lost == set()


@pytest.mark.parametrize(
    ("call", "lacks"),
    [
        ((LANDLOCK_CREATE_RULESET, ENOSYS), {"landlock": os.strerror(ENOSYS)}),
        ((LANDLOCK_CREATE_RULESET, EPERM), {"landlock": os.strerror(EPERM)}),
        ((LANDLOCK_ADD_RULE, EPERM), {"landlock": os.strerror(EPERM)}),
        ((LANDLOCK_RESTRICT_SELF, EPERM), {"landlock": os.strerror(EPERM)}),
        (NO_NEW_PRIVS, NOTHING),
        (SET_SECCOMP, {"system_calls": os.strerror(EPERM)}),
        ((SECCOMP, ENOSYS), {"threads": os.strerror(ENOSYS)}),
    ],
)
def test_refused_confinement_is_reported_and_the_rest_applied(
    tmp_path: Path, call: Sequence[int], lacks: dict[str, str]
) -> None:
    tried = Tried(tmp_path, call)

    assert (tried.lacks, tried.lost) == (lacks, set())
    assert lacks.keys() <= MEANS.keys()
    if lacks.keys() == {"landlock"}:
        assert tried.could == FILES
    if lacks.keys() == {"system_calls"}:
        assert tried.could == set()


def missing_where(*calls: Sequence[int]) -> dict[str, str]:
    listener = (sys.executable, "-P", "-m", "bringup.daemon.status.listener.start", "tell")
    command = [*Within(refused, *calls).command, *listener]
    # It lowers the turn of its session.
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=True, start_new_session=True)
    lacks: dict[str, str] = json.loads(done.stdout)
    return lacks


def test_capabilities_and_limits_that_cannot_be_dropped_are_reported() -> None:
    lacks = missing_where((CAPSET, EPERM), (PRLIMIT, EPERM))

    assert lacks == {"capabilities": os.strerror(EPERM), "limits": os.strerror(EPERM)}


def test_another_architecture_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = [*os.uname()[:4], "riscv64"]
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(elsewhere))

    assert refusal() == "no list of system calls for riscv64 with 64 bits"


def refusal() -> str:
    with pytest.raises(OSError, match="system calls") as raised:
        confinement.machine()
    return str(raised.value.strerror)


@pytest.mark.parametrize("machine", system_calls.MACHINES.values(), ids=system_calls.MACHINES)
def test_filter_lists_each_call_once_and_each_jump_ends_within_the_program(machine: system_calls.Architecture) -> None:
    names = [each[0] for each in (*system_calls.FREE, *system_calls.BOUND)]
    program = system_calls.program(machine)
    steps = list(struct.iter_unpack("=HBBI", program))

    assert len(names) == len(set(names))
    assert all(
        place + 1 + max(yes, no) < len(steps)
        for place, (code, yes, no, _) in enumerate(steps)
        if code != system_calls.RETURN
    )


HEADERS = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "/usr/include/asm-generic/unistd.h"}


@pytest.mark.parametrize("name", system_calls.MACHINES)
def test_call_numbers_are_those_of_the_kernels_headers(name: str) -> None:
    header = Path(HEADERS[name])
    if not header.exists():
        pytest.skip("the kernel's headers are not installed")
    known = dict(re.findall(r"^#define __NR(?:3264)?_(\w+) (\d+)$", header.read_text(), re.MULTILINE))
    known.setdefault("newfstatat", known.get("fstatat"))
    column = system_calls.MACHINES[name].column
    listed = {each[0]: each[1 + column] for each in (*system_calls.FREE, *system_calls.BOUND)}

    assert {call: number for call, number in listed.items() if number is not None} == {
        call: int(known[call]) for call in listed if known.get(call) is not None
    }
