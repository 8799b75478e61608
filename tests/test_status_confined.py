"""What the process that answers cannot do, on the kernel that runs here."""

import ctypes
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bringup.daemon.status.confined import BY_MACHINE, LANDLOCK_CREATE_RULESET, NAMES, PAIR, filter_of
from support.process import ENVIRONMENT

TRIES = """
import ctypes, json, os, resource, socket, subprocess, sys, threading
from bringup.daemon.status import confined, stripped
mine, mailbox, parent = *sys.argv[1:], os.getppid()
pipe = os.dup(1)
stripped.strip()
confined.confine()

def started():
    thread = threading.Thread(target=len, args=("",))
    thread.start()
    thread.join()

def send():
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    pair[0].sendto(b"READY=1", mailbox)

def refused(result):
    if result < 0:
        raise PermissionError

tries = {
    "read": lambda: open(mine).read(),
    "write": lambda: open(mine, "w"),
    "list": lambda: os.listdir(os.path.dirname(mine)),
    "remove": lambda: os.remove(mine),
    "environment": lambda: open(f"/proc/{parent}/environ").read(),
    "memory": lambda: open(f"/proc/{parent}/mem", "rb+"),
    "signal": lambda: os.kill(parent, 0),
    "connect": lambda: socket.socket(socket.AF_UNIX).connect("/run/libvirt/libvirt-sock"),
    "program": lambda: subprocess.run([sys.executable, "-c", ""]),
    "send": send,
    "limits": lambda: resource.prlimit(parent, resource.RLIMIT_CORE, (0, 0)),
    "turn": lambda: os.setpriority(os.PRIO_PROCESS, parent, os.getpriority(os.PRIO_PROCESS, parent)),
    "processors": lambda: os.sched_setaffinity(parent, os.sched_getaffinity(parent)),
    "scheduler": lambda: os.sched_setscheduler(parent, os.SCHED_OTHER, os.sched_param(0)),
    "trace": lambda: refused(ctypes.CDLL(None).ptrace(16, parent, 0, 0)),
    "a pair of sockets": lambda: socket.socketpair(),
    "a thread": started,
    "what is imported later": lambda: __import__("bringup.daemon.status.app"),
    "the page": lambda: __import__("bringup.daemon.status.page", fromlist=["page"]).page(),
    "the clock of the parent": lambda: open(f"/proc/{parent}/stat").read(),
}
found = {}
for name, attempt in tries.items():
    try:
        attempt()
        found[name] = True
    except PermissionError:
        found[name] = False
os.write(pipe, json.dumps(found).encode())
"""
BY_CALLS = {"signal", "connect", "send", "program", "limits", "turn", "processors", "scheduler", "trace"}
BY_FILES = {"read", "write", "list", "remove", "environment", "memory"}


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bool]:
    mine = tmp_path_factory.mktemp("state") / "file"
    mine.touch()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mailbox:
        mailbox.bind(str(mine.with_name("mailbox")))
        command = [sys.executable, "-c", TRIES, str(mine), mailbox.getsockname()]
        done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=True)
    found: dict[str, bool] = json.loads(done.stdout)
    assert mine.exists()
    return found


def test_it_begins_no_program_reaches_no_socket_and_touches_no_other_process(
    tried: dict[str, bool],
) -> None:
    assert {name for name in BY_CALLS if tried[name]} == set()


def test_it_reads_and_writes_no_file_of_its_user(tried: dict[str, bool]) -> None:
    if ctypes.CDLL(None).syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), 1) < 1:
        pytest.skip("this kernel has no Landlock")
    assert {name for name in BY_FILES if tried[name]} == set()


def test_it_can_do_its_work(tried: dict[str, bool]) -> None:
    assert {name for name in tried.keys() - BY_CALLS - BY_FILES if not tried[name]} == set()


@pytest.mark.parametrize("machine", BY_MACHINE)
def test_each_machine_has_a_number_for_every_call(machine: str) -> None:
    numbers = BY_MACHINE[machine].calls

    assert len(set(numbers)) == len(NAMES)
    assert len(filter_of(BY_MACHINE[machine])) % 8 == 0


HEADERS = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "/usr/include/asm-generic/unistd.h"}


@pytest.mark.parametrize("machine", BY_MACHINE)
def test_the_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    header = Path(HEADERS[machine])
    if not header.exists():
        pytest.skip("the kernel's headers are not installed")
    words = [line.split() for line in header.read_text().splitlines() if line.startswith("#define __NR_")]
    known = {parts[1].removeprefix("__NR_"): parts[2] for parts in words if len(parts) > 2}

    numbers = (*BY_MACHINE[machine].calls, BY_MACHINE[machine].pair)
    assert [known[name] for name in (*NAMES, PAIR)] == [str(number) for number in numbers]
