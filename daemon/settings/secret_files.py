"""Reader of secrets from files, with one rule for all of them.

A secret file is a regular file of at most 64 KiB that holds one line; trailing line ends are not part of it.  It is
refused if another user can choose its content: everybody may write to it or to its folder, or it is a link that belongs
to neither root, nor this user, nor the owner of its target.  If others than its owner can read
it, it is used with a warning.  Its content is never shown.
"""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from bringup.daemon.text import VISIBLE
from bringup.drivers.files import open_at_once

LARGEST_FILE = 1 << 16
OTHERS_MAY_LOOK = 0o066
OTHERS_MAY_WRITE = 0o002
ROOT = 0
Rule = tuple[str, Callable[[str], bool]]
TOKEN: Final[Rule] = (
    "a file that holds one token: visible ASCII characters, no spaces",
    lambda text: VISIBLE.fullmatch(text) is not None,
)
SECRET: Final[Rule] = ("a file that holds one secret: printable characters, UTF-8, one line", str.isprintable)


@dataclass(frozen=True, slots=True)
class SecretFile:
    """Content of a secret file."""

    secret: SecretStr
    problem: str | None
    """Why the file is questionable although it is used, as words that follow its name; None: it is not."""


def read_secret(path: Path, *, is_token: bool) -> SecretFile:
    """Read a token, or a password or an address with one in it.

    :raises OSError: it cannot be read.
    :raises ValueError: its text says what the file must be.  Neither shows its content.
    """
    right, is_right = TOKEN if is_token else SECRET
    with os.fdopen(open_at_once(path), "rb") as stream:
        found = os.fstat(stream.fileno())
        if stat.S_ISDIR(found.st_mode) or not stat.S_ISREG(found.st_mode):
            raise ValueError("a regular file")
        if problem := _chosen_by_others(path, found):
            raise ValueError(problem)
        content = stream.read(LARGEST_FILE + 1)
    # The decoding error itself would show the content.
    text = content.decode("utf-8", "replace").rstrip("\r\n")
    if not text or "\ufffd" in text or len(content) > LARGEST_FILE or not is_right(text):
        raise ValueError(right)
    return SecretFile(SecretStr(text), _readable_by_others(path, found))


def file_problem(path: Path) -> str | None:
    """Return why a file that a library reads, such as a private key, is questionable; None: it is not."""
    try:
        found = path.stat()
    except OSError:
        return None
    return _readable_by_others(path, found) if stat.S_ISREG(found.st_mode) else None


def _chosen_by_others(path: Path, found: os.stat_result) -> str | None:
    """Return what would be right if another user can choose the content of the file; None: none can."""
    if found.st_mode & OTHERS_MAY_WRITE:
        return f'a file that not everybody can write to (chmod 600 "{path}")'
    link = path.lstat()
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in {ROOT, os.geteuid(), found.st_uid}:
        return f"a file, or a link that belongs to root or to this user (it belongs to user {link.st_uid})"
    for folder in {path.parent, Path(os.path.realpath(path)).parent}:
        mode = folder.stat().st_mode
        if mode & OTHERS_MAY_WRITE and not mode & stat.S_ISVTX:
            return f"a file in a folder that not everybody can write to (chmod o-w {folder})"
    return None


def _readable_by_others(path: Path, found: os.stat_result) -> str | None:
    if found.st_mode & OTHERS_MAY_LOOK:
        return f'others than its owner can read it; chmod 600 "{path}"'
    if found.st_uid not in {ROOT, os.geteuid()}:
        return f"it belongs to user {found.st_uid}, who can change it; give it to root or to this user"
    return None
