"""Run a command to which the kernel refuses locks on files: ``no_locks.py flock|fcntl|flock,fcntl COMMAND...``.

A file system without locks (NFS without its lock service) answers ENOLCK; a filter of system calls does so here, for
this process and those that it becomes, on whatever file system.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.ENOLCK
NUMBER_AT, SECOND_ARGUMENT_AT = 0, 24
NUMBERS = {"x86_64": {"fcntl": 72, "flock": 73}, "aarch64": {"fcntl": 25, "flock": 32}}
LOCK_COMMANDS = (5, 6, 7, 36, 37, 38)
"""``F_GETLK``, ``F_SETLK``, ``F_SETLKW``, and those of open file descriptions."""


def _step(code: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_so, if_not, value)


def program(calls: list[str]) -> bytes:
    """Return the filter."""
    numbers = NUMBERS[platform.machine()]
    steps = [_step(LOAD, NUMBER_AT)]
    if "flock" in calls:
        steps += [_step(EQUAL, numbers["flock"], 0, 1), _step(RETURN, REFUSE)]
    if "fcntl" in calls:
        steps += [_step(EQUAL, numbers["fcntl"], 0, 3 + len(LOCK_COMMANDS)), _step(LOAD, SECOND_ARGUMENT_AT)]
        steps += [_step(EQUAL, command, len(LOCK_COMMANDS) - number, 0) for number, command in enumerate(LOCK_COMMANDS)]
        steps += [_step(RETURN, ALLOW), _step(RETURN, REFUSE)]
    return b"".join((*steps, _step(RETURN, ALLOW)))


def refuse(calls: list[str]) -> None:
    """Refuse them from now on."""
    libc = ctypes.CDLL(None, use_errno=True)
    text = program(calls)
    kept = ctypes.create_string_buffer(text, len(text))
    whole = struct.pack("HL", len(text) // 8, ctypes.addressof(kept))
    for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, whole)):
        if libc.prctl(*arguments, 0, 0):
            raise OSError(ctypes.get_errno(), "no filter of system calls can be set")


if __name__ == "__main__":
    refuse(sys.argv[1].split(","))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - the command of a test
