"""Files of our own, read whole: what is in the place of one and is none is never waited for."""

import errno
import os
import stat
from pathlib import Path


def read_file(path: Path) -> bytes:
    """Read a file.

    A FIFO would be waited for until somebody writes to it, and a device may never end.

    :raises OSError: it cannot be read, or is no file (``EINVAL``).
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no file", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)
