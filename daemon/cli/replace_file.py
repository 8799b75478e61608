"""A file that a person named is written whole or not at all; what was in it before is kept beside it."""

import contextlib
import os
import shutil
from pathlib import Path

from bringup.daemon.errors import UsageError
from bringup.daemon.storage.files import write_durably

BEFORE = ".before"
MODE = 0o640


def replace_file(path: Path, text: str, *, option: str) -> Path | None:
    """Write a text; give the file that has what was there before, None where that is nothing or the same.

    A new file belongs to the group of its folder, so that who may look into the folder may read it.

    :raises UsageError: it cannot be written; what was there still is.
    """
    target, data = path.resolve(), text.encode()
    try:
        if target.exists() and not target.is_file():
            raise UsageError(f"{option} {path}: this is no file; name a file")
        kept: Path | None = target.with_name(target.name + BEFORE)
        if kept is not None and target.exists():
            if target.read_bytes() == data:
                return None
            shutil.copy2(target, kept)
            _give(kept, like=target)
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        write_durably(draft, data, draft=draft.with_name(draft.name + ".draft"))
        if target.exists():
            _give(draft, like=target)
        else:
            draft.chmod(MODE)
            with contextlib.suppress(OSError):
                os.chown(draft, -1, target.parent.stat().st_gid)
            kept = None
        draft.rename(target)
    except OSError as error:
        raise UsageError(f"{option} {path}: cannot be written ({error.strerror}); it is as it was") from error
    return kept


def _give(path: Path, *, like: Path) -> None:
    """Give a file the mode, and where this user may the owner, of another."""
    found = like.stat()
    with contextlib.suppress(OSError):
        os.chown(path, found.st_uid, found.st_gid)
    path.chmod(found.st_mode & 0o7777)
