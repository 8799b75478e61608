"""Files of our own, read whole, and files that an operator names: no open or read of one waits without a bound."""

import errno
import os
import select
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

LARGEST: Final = 64 * 1024 * 1024
"""Most bytes of a file of our own: a report of 100 000 instances has fewer."""
OF_A_DATABASE: Final = ("", "-wal", "-shm", "-journal")
"""Suffixes of the files that SQLite keeps for a database."""
PIPE_S: Final = 2.0
"""How long to wait for a writer to a pipe that was named instead of a file."""


def open_at_once(path: Path) -> int:
    """Open a path for reading; return its descriptor.  A FIFO or a terminal in the place of a file is not waited for.

    :raises OSError: it cannot be opened.
    """
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


@contextmanager
def open_input(path: Path, *, wait_s: float = PIPE_S) -> Iterator[BinaryIO]:
    """Open for reading what an operator names: a file, or a pipe that a program writes to.

    :raises OSError: it cannot be opened, or no program writes to the pipe (``ETIMEDOUT``).
    """
    descriptor = open_at_once(path)
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with os.fdopen(descriptor, "rb") as stream:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            waiting = select.poll()
            waiting.register(descriptor, select.POLLIN)
            if not waiting.poll(1000 * wait_s):
                raise OSError(errno.ETIMEDOUT, "it is a pipe, and nobody writes to it", str(path))
        os.set_blocking(descriptor, True)
        yield stream


def unreadable_reason(path: Path) -> str | None:
    """Return why a library could not read to the end what an operator names; None: it can.

    A file, a directory, a missing file and an unreadable one are left to the library.
    """
    try:
        found = path.stat()
    except OSError:
        return None
    if stat.S_ISREG(found.st_mode):
        return f"it is larger than {LARGEST} bytes" if found.st_size > LARGEST else None
    if stat.S_ISDIR(found.st_mode):
        return None
    if not stat.S_ISFIFO(found.st_mode):
        return "it is no file"
    try:
        with open_input(path):
            return None
    except OSError as error:
        return error.strerror


def database_file_problem(path: Path) -> str | None:
    """Return why an SQLite database, or a file that SQLite keeps beside it, is no regular file; None: all are.

    SQLite waits at a FIFO until another program opens it, writes to a device, and fails at anything else.
    """
    for suffix in OF_A_DATABASE:
        place = path.with_name(path.name + suffix)
        try:
            mode = place.stat().st_mode
        except FileNotFoundError:
            if place.is_symlink():
                return f"{place} is a link to what is not there"
            continue
        except OSError as error:
            if error.errno == errno.ELOOP:
                return f"{place} is a link to itself"
            # The caller that opens it reports that.
            continue
        if not stat.S_ISREG(mode):
            return f"{place} is no file"
    return None


def read_file(path: Path) -> bytes:
    """Read a file of at most :data:`LARGEST` bytes.

    An open would wait for the writer of a FIFO, and a device may never end.

    :raises OSError: it cannot be read, is no regular file, or is larger (``EINVAL``).
    """
    descriptor = open_at_once(path)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no file", str(path))
        if found.st_size > LARGEST:
            raise OSError(errno.EINVAL, f"it is larger than {LARGEST} bytes, and none of ours", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)
