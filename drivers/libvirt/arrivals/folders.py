"""Names that appear in folders: the kernel's inotify.

A file counts once whoever writes it has closed it, or it was renamed into place: a disk that is still being copied is
no disk yet.
"""

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterator
from typing import Final

CLOSE_WRITE: Final = 0x8
MOVED_TO: Final = 0x80
CREATE: Final = 0x100
GONE: Final = 0x400 | 0x800 | 0x2000 | 0x8000
"""The folder itself was deleted, moved or unmounted, or is not watched any more."""
OVERFLOW: Final = 0x4000
ONLY_FOLDERS: Final = 0x01000000
WANTED: Final = CLOSE_WRITE | MOVED_TO | CREATE | 0x400 | 0x800 | ONLY_FOLDERS
EVENT: Final = struct.Struct("iIII")
MOST_BYTES: Final = 1 << 16


class Folders:
    """Folders in which names are awaited.  Whoever opens it closes it."""

    def __init__(self) -> None:
        """Open it.

        :raises OSError: the kernel does not permit it.
        """
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._file = self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._folders: dict[int, str] = {}
        self._names: dict[int, set[str]] = {}

    def fileno(self) -> int:
        """Return the descriptor that is readable when something happened."""
        return self._file

    def close(self) -> None:
        """Close it."""
        os.close(self._file)

    def wait_for(self, folder: str, name: str) -> None:
        """Await a name in a folder; blocks.

        :raises OSError: it is no folder, or may not be watched.
        """
        number = self._checked(self._libc.inotify_add_watch(self._file, os.fsencode(folder), WANTED))
        self._folders[number] = folder
        self._names.setdefault(number, set()).add(name)

    def forget_names(self) -> None:
        """Await no name any more."""
        for names in self._names.values():
            names.clear()

    def leave_others(self) -> None:
        """Watch no folder any more in which no name is awaited."""
        for number in [number for number, names in self._names.items() if not names]:
            self._libc.inotify_rm_watch(self._file, number)
            del self._names[number], self._folders[number]

    def read(self) -> Iterator[tuple[str, str]]:
        """Return folder and name of what has appeared; the name is "" where all in the folder may have changed."""
        for number, mask, name in self._events():
            folder, names = self._folders.get(number, ""), self._names.get(number, set())
            if mask & OVERFLOW:
                yield from ((each, "") for each in self._folders.values())
            elif mask & GONE and names:
                yield folder, ""
            elif name in names and not (mask & CREATE and _is_being_written(f"{folder}/{name}")):
                yield folder, name

    def _events(self) -> Iterator[tuple[int, int, str]]:
        while True:
            try:
                data = os.read(self._file, MOST_BYTES)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                number, mask, _, length = EVENT.unpack_from(data, at)
                at += EVENT.size + length
                yield number, mask, os.fsdecode(data[at - length : at].rstrip(b"\0"))

    def _checked(self, result: int) -> int:
        if result < 0:
            number = ctypes.get_errno() or errno.EIO
            raise OSError(number, os.strerror(number))
        return result


def _is_being_written(path: str) -> bool:
    """Check whether what was created is a file that its writer has yet to close; a hard link has no writer."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1
