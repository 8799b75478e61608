"""What a test makes different for a process: its rights, its limits, its mounts, its terminal, refused system calls.

A process enters them itself: one that is forked with the imports done (preloaded.py), or this file, which then becomes
the command that follows: ``surroundings.py '["at_most", 4096]' COMMAND...``.
"""

import ctypes
import errno
import fcntl
import json
import os
import platform
import resource
import struct
import sys
import termios
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

NOBODY: Final = 65534
_REPOSITORY: Final = Path(__file__).parents[2]
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_MAY_PASS_MODES: Final = (1, 2)
"""CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: root may read and write everything with them."""
_CAPBSET_DROP, _SET_DUMPABLE, _SET_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 24, 4, 38, 22, 2
_CAPABILITIES_3: Final = 0x20080522
_NEW_MOUNTS: Final = 0x20000
_READ_ONLY, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 32, 4096, 16384, 1 << 18
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_FIRST_ARGUMENT, _ARGUMENT_BYTES = 16, 8
_NUMBERS: Final = {"x86_64": {"fcntl": 72, "flock": 73}, "aarch64": {"fcntl": 25, "flock": 32}}
_LOCK_COMMANDS: Final = (5, 6, 7, 36, 37, 38)
"""``F_GETLK``, ``F_SETLK``, ``F_SETLKW``, and those of open file descriptions."""


class Within:
    """One of the functions below, and its arguments."""

    def __init__(self, enter: Callable[..., None], *arguments: object) -> None:
        self.request = (enter.__name__, *arguments)

    @property
    def command(self) -> tuple[str, ...]:
        """Return the start of a command line whose rest runs in them."""
        return (sys.executable, __file__, json.dumps(self.request))


def enter(request: Sequence[object]) -> None:
    """Enter what :class:`Within` has."""
    name, *arguments = request
    globals()[str(name)](*arguments)


def without_rights_of_root() -> None:
    """Allow root to read and write only what its owner may."""
    header, held = struct.pack("Ii", _CAPABILITIES_3, 0), ctypes.create_string_buffer(24)
    for right in _MAY_PASS_MODES:
        _call("prctl", _CAPBSET_DROP, right, 0, 0, 0)
    _call("capget", header, held)
    # Three words have the rights 0 to 31: those in effect, those that can be, those that are handed on.
    words = struct.unpack("6I", held.raw)
    kept = ~sum(1 << right for right in _MAY_PASS_MODES)
    _call("capset", header, struct.pack("6I", *(word & kept for word in words[:3]), *words[3:]))


def nobody() -> None:
    """Become another user, in a mount namespace in which the interpreter and this repository are everybody's."""
    _own_mounts()
    needed = {Path(sys.base_prefix), _REPOSITORY}
    closed = sorted(path for path in needed if not all(parent.stat().st_mode & 1 for parent in path.parents))
    # They may lie in a folder of root's own; what is mounted over that hides them from all that do not hold them.
    held = [os.open(path, os.O_PATH) for path in closed]
    for top in sorted({Path(*path.parts[:2]) for path in closed}):
        _mount("none", top, "tmpfs", data="mode=0755")
    for path, descriptor in zip(closed, held, strict=True):
        path.mkdir(parents=True, exist_ok=True)
        _mount(f"/proc/self/fd/{descriptor}", path, flags=_BIND)
        os.close(descriptor)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    # As after the start of a program: what is in /proc/self is its own.
    _call("prctl", _SET_DUMPABLE, 1, 0, 0, 0)


def at_most(limit: int) -> None:
    """Limit files to this many bytes; the limit can be lifted."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def read_only(directory: str) -> None:
    """Mount a directory on a file system that takes no writes."""
    _own_mounts()
    _mount(directory, directory, flags=_BIND)
    _mount("none", directory, flags=_REMOUNT | _BIND | _READ_ONLY)


def full(directory: str) -> None:
    """Mount a directory on a disk that takes not one more file."""
    _own_mounts()
    _mount("tmpfs", directory, "tmpfs", data="nr_inodes=1,mode=0700")


def own_terminal() -> None:
    """Make standard input the controlling terminal, without which Ctrl-C would be a character like any other."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def without_locks(*calls: str) -> None:
    """Refuse locks of files, of flock or of fcntl, as on NFS without its lock service."""
    numbers = _NUMBERS[platform.machine()]
    if "flock" in calls:
        refused((numbers["flock"], errno.ENOLCK))
    if "fcntl" in calls:
        refused(*((numbers["fcntl"], errno.ENOLCK, 1, command) for command in _LOCK_COMMANDS))


def refused(*calls: Sequence[int]) -> None:
    """Refuse system calls, as by an old kernel, a container or a unit: number, errno[, argument, its value]."""
    steps = [(_LOAD, 0, 0, 0)]
    for number, error, *only in calls:
        refuse = [(_RETURN, 0, 0, _REFUSE | error)]
        if only:
            argument, value = only
            loaded = (_LOAD, 0, 0, _FIRST_ARGUMENT + _ARGUMENT_BYTES * argument)
            refuse = [loaded, (_EQUAL, 0, 1, value), *refuse, (_LOAD, 0, 0, 0)]
        steps += [(_EQUAL, 0, len(refuse), number), *refuse]
    steps.append((_RETURN, 0, 0, _ALLOW))
    program = b"".join(struct.pack("=HBBI", *step) for step in steps)
    kept = ctypes.create_string_buffer(program, len(program))
    if os.geteuid() != 0:
        # Root may, without more.
        _call("prctl", _SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("prctl", _SET_SECCOMP, _FILTER, struct.pack("@HP", len(steps), ctypes.addressof(kept)), 0, 0)


def _own_mounts() -> None:
    _call("unshare", _NEW_MOUNTS)
    _mount("none", "/", flags=_RECURSIVE | _PRIVATE)


def _mount(source: str, target: str | Path, kind: str = "none", *, flags: int = 0, data: str = "") -> None:
    _call("mount", source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), data.encode())


def _call(name: str, *arguments: object) -> None:
    if getattr(_LIBC, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    enter(json.loads(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - the command of a test
