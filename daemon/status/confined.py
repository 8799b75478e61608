"""What the process that answers may not do, whoever makes it do things: by Landlock and by a filter of system calls.

It has the daemon's user, and that user may open libvirt's socket, the state directory and the memory of the daemon.  So
it may read the files of Python and of this program and no others, write none, connect and send to nothing, begin no
program, and touch no other process, its limits and its turn neither.  See landlock(7) (Linux 5.13, a part of it later)
and seccomp(2).  Where the kernel does not have one of them, or a service manager refuses it, the other is left; this
never ends the process.
"""

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PR_SET_SECCOMP: Final = 22
SECCOMP_MODE_FILTER: Final = 2
LANDLOCK_CREATE_RULESET: Final = 444
LANDLOCK_ADD_RULE: Final = 445
LANDLOCK_RESTRICT_SELF: Final = 446
VERSION: Final = 1
PATH_BENEATH: Final = 1
READ_FILE: Final = 1 << 2
READ_DIR: Final = 1 << 3
FILES_BY_ABI: Final = ((5, (1 << 16) - 1), (3, (1 << 15) - 1), (2, (1 << 14) - 1), (1, (1 << 13) - 1))
"""Every access to files that a version knows, the latest first (linux/landlock.h)."""
TCP: Final = 0b11
"""To bind and to connect; from version 4 on."""
SCOPES: Final = 0b11
"""Abstract UNIX sockets and signals; from version 6 on."""
ALSO_READ: Final = (
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/proc",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/ld.so.cache",
)

EPERM: Final = 1
ALLOWED: Final = 0x7FFF0000
REFUSED: Final = 0x00050000 | EPERM
LOAD, AND, EQUAL, AT_LEAST, RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
CALL, MACHINE, SECOND_ARGUMENT = 0, 4, 24
"""Where they stand in seccomp_data; of an argument its lower half, where the lower half is the first."""
TYPE: Final = 0xF
STREAM: Final = 1
"""SOCK_TYPE_MASK and SOCK_STREAM (linux/net.h)."""
X32: Final = 0x40000000
"""Calls of another convention of x86-64 have this bit; on other machines there are none."""
NAMES: Final = (
    *("socket", "connect", "execve", "execveat", "kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"),
    *("ptrace", "process_vm_readv", "process_vm_writev", "keyctl", "bpf", "perf_event_open", "open_by_handle_at"),
    # They take the process that they change: its limits, its turn, its processors.
    *("prlimit64", "setpriority", "ioprio_set", "sched_setaffinity", "sched_setscheduler", "sched_setparam"),
    "sched_setattr",
)
PAIR: Final = "socketpair"
"""An event loop wants one of streams; one of datagrams could send to any socket that the user may send to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the filter must know of a machine."""

    audit: int
    """Its number in the kernel's audit."""
    pair: int
    """Its number of PAIR (asm/unistd.h)."""
    calls: tuple[int, ...]
    """Its numbers of NAMES."""


BY_MACHINE: Final = {
    "x86_64": Machine(
        audit=0xC000003E,
        pair=53,
        calls=(
            *(41, 42, 59, 322, 62, 200, 234, 129, 297, 101, 310, 311, 250, 321, 298, 304),
            *(302, 141, 251, 203, 144, 142, 314),
        ),
    ),
    "aarch64": Machine(
        audit=0xC00000B7,
        pair=199,
        calls=(
            *(198, 203, 221, 281, 129, 130, 131, 138, 240, 117, 270, 271, 219, 280, 241, 265),
            *(261, 140, 30, 122, 119, 118, 274),
        ),
    ),
}
EVERYWHERE: Final = (424, 425, 434, 438, 440)
"""pidfd_send_signal, io_uring_setup, pidfd_open, pidfd_getfd, process_madvise: the same on every machine."""


def confine() -> None:
    """Begin; for the life of the process, and of whatever it begins."""
    libc = ctypes.CDLL(None, use_errno=True)
    with suppress(OSError):
        _restrict_files(libc)
    _filter_calls(libc)


def _restrict_files(libc: ctypes.CDLL) -> None:
    version = libc.syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), VERSION)
    handled = next((mask for least, mask in FILES_BY_ABI if version >= least), None)
    if handled is None:
        return
    fields = [handled, *([TCP] if version >= 4 else []), *([SCOPES] if version >= 6 else [])]  # noqa: PLR2004 - see there
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = libc.syscall(LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return
    try:
        for path in _readable():
            _let_read(libc, ruleset, path)
        libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _readable() -> Iterable[str]:
    """Give what Python imports from, and what it looks up."""
    ours = str(Path(__file__).resolve().parents[2])
    return dict.fromkeys((ours, sys.prefix, sys.base_prefix, sys.exec_prefix, *filter(None, sys.path), *ALSO_READ))


def _let_read(libc: ctypes.CDLL, ruleset: int, path: str) -> None:
    with suppress(OSError):  # what is not there need not be read
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            access = READ_FILE | READ_DIR if Path(path).is_dir() else READ_FILE
            rule = struct.pack("=Qi", access, descriptor)
            libc.syscall(LANDLOCK_ADD_RULE, ruleset, PATH_BENEATH, rule, 0)
        finally:
            os.close(descriptor)


def _filter_calls(libc: ctypes.CDLL) -> None:
    machine = BY_MACHINE.get(os.uname().machine)
    if machine is None or sys.maxsize < 1 << 32:
        return
    program = filter_of(machine)
    kept = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("@HP", len(program) // 8, ctypes.addressof(kept))
    libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(described), 0, 0)


def filter_of(machine: Machine) -> bytes:
    """Give the program: what is called by another convention, is one of these, or makes a pair of datagrams is refused.

    Each step but the first says how many are passed over where it holds, and where it does not.
    """
    refused = [*machine.calls, *EVERYWHERE]
    rest = len(refused) + 4
    steps = [
        (LOAD, 0, 0, MACHINE),
        (EQUAL, 0, rest + 3, machine.audit),
        (LOAD, 0, 0, CALL),
        (AT_LEAST, rest + 1, 0, X32),
        *((EQUAL, rest - place, 0, number) for place, number in enumerate(refused)),
        (EQUAL, 0, 3, machine.pair),
        (LOAD, 0, 0, SECOND_ARGUMENT),
        (AND, 0, 0, TYPE),
        (EQUAL, 0, 1, STREAM),
        (RETURN, 0, 0, ALLOWED),
        (RETURN, 0, 0, REFUSED),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
