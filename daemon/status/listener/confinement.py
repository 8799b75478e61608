"""Confinement of the process that answers: by Landlock and by a filter of system calls.

It has the daemon's user, and that user may open libvirt's socket, the state directory and the memory of the daemon.  So
it may read the files of Python and of this program and no others, write none, connect to nothing, start no program, and
access no other process.  See landlock(7) (Linux 5.13, a part of it later) and seccomp(2).  Where the kernel does not
have one of them, or a service manager or a container refuses it, the other remains, and that is reported; this never
ends the process.
"""

import ctypes
import os
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from bringup.daemon.status.listener import system_calls

PR_SET_SECCOMP: Final = 22
SECCOMP_MODE_FILTER: Final = 2
SECCOMP_SET_MODE_FILTER: Final = 1
TO_ALL_THREADS: Final = 1
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


def confine() -> dict[str, str]:
    """Confine this process and its children for good; return what could not be applied, and why."""
    libc = ctypes.CDLL(None, use_errno=True)
    return applied({"landlock": lambda: _restrict_files(libc), "system_calls": lambda: _filter_calls(libc)})


def end_threads() -> dict[str, str]:
    """Refuse new threads, which count against the limit of the daemon; return what could not be applied, and why."""
    libc = ctypes.CDLL(None, use_errno=True)
    return applied({"threads": lambda: _refuse_threads(libc)})


def applied(steps: Mapping[str, Callable[[], object]]) -> dict[str, str]:
    """Execute all steps, also after a failure; return what failed, and why."""
    failed = {}
    for name, step in steps.items():
        try:
            step()
        except OSError as error:
            failed[name] = error.strerror or str(error)
    return failed


def checked(result: int) -> int:
    """Return the result of a call of the C library.

    :raises OSError: it failed.
    """
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _restrict_files(libc: ctypes.CDLL) -> None:
    version = checked(libc.syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), VERSION))
    handled = next(mask for least, mask in FILES_BY_ABI if version >= least)
    fields = [handled, *([TCP] if version >= 4 else []), *([SCOPES] if version >= 6 else [])]  # noqa: PLR2004 - see there
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = checked(libc.syscall(LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    try:
        # Without a rule it could not even read itself: either all are applied, or nothing is restricted.
        for path in _readable():
            _let_read(libc, ruleset, path)
        checked(libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _readable() -> Iterable[str]:
    """Return the files that Python imports and reads."""
    ours = str(Path(__file__).resolve().parents[3])
    return dict.fromkeys((ours, sys.prefix, sys.base_prefix, sys.exec_prefix, *filter(None, sys.path), *ALSO_READ))


def _let_read(libc: ctypes.CDLL, ruleset: int, path: str) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there need not be read
    try:
        access = READ_FILE | READ_DIR if Path(path).is_dir() else READ_FILE
        rule = struct.pack("=Qi", access, descriptor)
        checked(libc.syscall(LANDLOCK_ADD_RULE, ruleset, PATH_BENEATH, rule, 0))
    finally:
        os.close(descriptor)


def machine() -> system_calls.Architecture:
    """Return this machine.

    :raises OSError: its system calls are not listed.
    """
    name = os.uname().machine
    found = system_calls.MACHINES.get(name)
    if found is None or sys.maxsize < 1 << 32:
        raise OSError(0, f"no list of system calls for {name} with {8 * struct.calcsize('P')} bits")
    return found


def _filter_calls(libc: ctypes.CDLL) -> None:
    described, _kept = _described(system_calls.program(machine()))
    checked(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(described), 0, 0))


def _refuse_threads(libc: ctypes.CDLL) -> None:
    here = machine()
    described, _kept = _described(system_calls.without_threads(here))
    number = system_calls.number_of("seccomp", here)
    if checked(libc.syscall(number, SECCOMP_SET_MODE_FILTER, TO_ALL_THREADS, ctypes.c_char_p(described))) > 0:
        raise OSError(0, "another thread has a filter of its own")


def _described(program: bytes) -> tuple[bytes, ctypes.Array[ctypes.c_char]]:
    """Return a program as the kernel accepts it (struct sock_fprog), and the buffer that has to live until then."""
    kept = ctypes.create_string_buffer(program, len(program))
    return struct.pack("@HP", len(program) // 8, ctypes.addressof(kept)), kept
