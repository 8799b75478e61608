"""Files that are whole or absent after a power cut, and private (0600 in 0700)."""

import contextlib
import os
from pathlib import Path


def make_private_directory(directory: Path) -> None:
    """Create a directory that only this user can enter; an existing one is left as it is."""
    if directory.is_dir():
        return
    directory.mkdir(mode=0o700, parents=True)
    sync_directory(directory.parent)


def write_durably(path: Path, data: bytes, *, draft: Path) -> None:
    """Write a file by way of ``draft``, a name in the same directory; on disk when this returns."""
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make creations, renames and removals in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
