"""System calls of the process that answers, as a program for seccomp(2): what is not listed here is refused.

Python, its libraries and the C library need these and no others, once the process has started.  Not listed are all that
make a socket, connect, start a process, access another one, its limits or its priority, lock a file or write one.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from errno import ENOSYS, EPERM
from typing import Final

Step = tuple[int, int, int, int]
"""One instruction: code, jump if true, jump if false, and its number (linux/bpf_common.h)."""
LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
NUMBER, ARCHITECTURE = 0, 4
"""Their offsets in struct seccomp_data; the arguments follow from 16 on, eight bytes each."""
ERRNO: Final = 0x00050000
ALLOW: Final[Step] = (RETURN, 0, 0, 0x7FFF0000)
REFUSE: Final[Step] = (RETURN, 0, 0, ERRNO | EPERM)
UNKNOWN: Final[Step] = (RETURN, 0, 0, ERRNO | ENOSYS)
"""For a C library that is newer than this list: it falls back to an older call."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """A machine whose numbers of system calls are known."""

    audit: int
    """Its number in linux/audit.h."""
    column: int


MACHINES: Final = {"x86_64": Architecture(0xC000003E, 0), "aarch64": Architecture(0xC00000B7, 1)}


def one_of(argument: int, *values: int) -> list[Step]:
    """Allow these values of an argument, of which the lower half is compared."""
    allowed = [step for value in values for step in ((EQUAL, 0, 1, value), ALLOW)]
    return [_load(argument), *allowed, REFUSE]


def no_bit(argument: int, mask: int) -> list[Step]:
    """Allow an argument that has none of these bits."""
    return [_load(argument), (ANY_BIT, 0, 1, mask), REFUSE, ALLOW]


def some_bit(argument: int, mask: int) -> list[Step]:
    """Allow an argument that has one of these bits."""
    return [_load(argument), (ANY_BIT, 0, 1, mask), ALLOW, REFUSE]


def _load(argument: int) -> Step:
    return (LOAD, 0, 0, 16 + 8 * argument)


def _for_level(level: int, *options: int) -> list[Step]:
    inner = one_of(2, *options)
    return [_load(1), (EQUAL, 0, len(inner), level), *inner]


WRITES: Final = 0o3 | 0o100 | 0o1000
"""O_WRONLY, O_RDWR, O_CREAT, O_TRUNC."""
SHARED_OR_GROWING: Final = 0x1 | 0x100
"""MAP_SHARED, MAP_GROWSDOWN: memory that RLIMIT_DATA does not count."""
CLONE3: Final = 435
"""On every machine; its arguments cannot be read, so it is never allowed."""
THREAD: Final = 0x10000
"""CLONE_THREAD: not a process."""
FREE: Final[Sequence[tuple[str, int | None, int | None]]] = (
    ("read", 0, 63),
    ("pread64", 17, 67),
    ("readv", 19, 65),
    ("write", 1, 64),
    ("writev", 20, 66),
    ("close", 3, 57),
    ("lseek", 8, 62),
    ("stat", 4, None),
    ("lstat", 6, None),
    ("fstat", 5, 80),
    ("newfstatat", 262, 79),
    ("statx", 332, 291),
    ("access", 21, None),
    ("faccessat", 269, 48),
    ("faccessat2", 439, 439),
    ("readlink", 89, None),
    ("readlinkat", 267, 78),
    ("getcwd", 79, 17),
    ("getdents64", 217, 61),
    ("brk", 12, 214),
    ("mprotect", 10, 226),
    ("munmap", 11, 215),
    ("mremap", 25, 216),
    ("madvise", 28, 233),
    ("futex", 202, 98),
    ("set_robust_list", 273, 99),
    ("rseq", 334, 293),
    ("sched_yield", 24, 124),
    ("sched_getaffinity", 204, 123),
    ("getcpu", 309, 168),
    ("getpid", 39, 172),
    ("getppid", 110, 173),
    ("gettid", 186, 178),
    ("getuid", 102, 174),
    ("geteuid", 107, 175),
    ("getgid", 104, 176),
    ("getegid", 108, 177),
    ("uname", 63, 160),
    ("sysinfo", 99, 179),
    ("getrlimit", 97, 163),
    ("getrusage", 98, 165),
    ("times", 100, 153),
    ("getrandom", 318, 278),
    ("time", 201, None),
    ("gettimeofday", 96, 169),
    ("clock_gettime", 228, 113),
    ("clock_getres", 229, 114),
    ("clock_nanosleep", 230, 115),
    ("nanosleep", 35, 101),
    ("rt_sigaction", 13, 134),
    ("rt_sigprocmask", 14, 135),
    ("rt_sigreturn", 15, 139),
    ("sigaltstack", 131, 132),
    ("restart_syscall", 219, 128),
    ("exit", 60, 93),
    ("exit_group", 231, 94),
    ("seccomp", 317, 277),
    ("epoll_create1", 291, 20),
    ("epoll_ctl", 233, 21),
    ("epoll_wait", 232, None),
    ("epoll_pwait", 281, 22),
    ("epoll_pwait2", 441, 441),
    ("poll", 7, None),
    ("ppoll", 271, 73),
    ("select", 23, None),
    ("pselect6", 270, 72),
    ("eventfd2", 290, 19),
    ("pipe2", 293, 59),
    ("dup", 32, 23),
    ("accept", 43, 202),
    ("accept4", 288, 242),
    ("recvfrom", 45, 207),
    ("recvmsg", 47, 212),
    ("sendto", 44, 206),
    ("sendmsg", 46, 211),
    ("getsockname", 51, 204),
    ("getpeername", 52, 205),
    ("getsockopt", 55, 209),
)
"""Allowed whatever is asked of them: name, number on x86-64, number on 64-bit ARM."""
BOUND: Final[Sequence[tuple[str, int | None, int | None, Sequence[Step]]]] = (
    ("open", 2, None, no_bit(1, WRITES)),
    ("openat", 257, 56, no_bit(2, WRITES)),
    ("mmap", 9, 222, no_bit(3, SHARED_OR_GROWING)),
    ("clone", 56, 220, some_bit(0, THREAD)),
    # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC; F_SETOWN and F_SETSIG send any signal to the daemon.
    ("fcntl", 72, 25, one_of(1, 0, 1, 2, 3, 4, 1030)),
    # TCGETS, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX, TCGETS2.
    ("ioctl", 16, 29, one_of(1, 0x5401, 0x541B, 0x5421, 0x5450, 0x5451, 0x802C542A)),
    # Buffers, TCP_NODELAY; a filter would stay at the listener when this process is gone.
    ("setsockopt", 54, 208, [*_for_level(1, 7, 8), *_for_level(6, 1), REFUSE]),
    # Streams alone, with or without SOCK_NONBLOCK and SOCK_CLOEXEC: a datagram can be sent to any socket of the host.
    ("socketpair", 53, 199, one_of(1, 0x1, 0x801, 0x80001, 0x80801)),
    # Its own limits; those of the daemon are its user's to change too.
    ("prlimit64", 302, 261, one_of(0, 0)),
    # PR_SET_NAME, of a thread.
    ("prctl", 157, 167, one_of(0, 15)),
)
"""Allowed where their arguments are these."""


def program(machine: Architecture) -> bytes:
    """Return the program for a machine."""
    steps: list[Step] = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, machine.audit), REFUSE, (LOAD, 0, 0, NUMBER)]
    for _, *numbers in FREE:
        number = numbers[machine.column]
        if number is not None:
            steps += [(EQUAL, 0, 1, number), ALLOW]
    for _, *bound, wanted in BOUND:
        number = bound[machine.column]
        if number is not None:
            steps += [(EQUAL, 0, len(wanted), number), *wanted]
    return assembled([*steps, UNKNOWN])


def without_threads(machine: Architecture) -> bytes:
    """Return a program that refuses to start a thread, and decides nothing else."""
    numbers = (number_of("clone", machine), CLONE3)
    refused = [step for number in numbers for step in ((EQUAL, 0, 1, number), REFUSE)]
    return assembled([(LOAD, 0, 0, NUMBER), *refused, ALLOW])


def number_of(name: str, machine: Architecture) -> int:
    """Return the number of a call that every machine has."""
    [number] = [numbers[machine.column] for other, *numbers in (*FREE, *(each[:3] for each in BOUND)) if other == name]
    if number is None:
        raise KeyError(name)
    return number


def assembled(steps: Sequence[Step]) -> bytes:
    """Convert instructions to the bytes that the kernel reads."""
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
