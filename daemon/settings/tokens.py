"""Tokens from files: read once, checked, and kept where no message shows them."""

import os
from pathlib import Path

from pydantic import SecretStr

from bringup.daemon.settings.values import VISIBLE

LARGEST_FILE = 1 << 16
OTHERS_MAY_READ = 0o044


def read_token(path: Path) -> tuple[SecretStr, bool]:
    """Read a token; the second value says whether others than the owner may read the file.

    Raises ``OSError``, or ``ValueError`` whose text says what the file must hold; neither shows its content.
    """
    content, exposed = _content(path)
    # Not UTF-8 is not visible ASCII either; the decoding error itself would show the content.
    token = content.decode("ascii", "replace").strip()
    if not VISIBLE.fullmatch(token) or len(content) > LARGEST_FILE:
        raise ValueError("a file that holds one token: visible ASCII characters, no spaces")
    return SecretStr(token), exposed


def read_secret(path: Path) -> tuple[SecretStr, bool]:
    """Read a password, as :func:`read_token` reads a token; only line ends at its end are not part of it."""
    content, exposed = _content(path)
    secret = content.decode("utf-8", "replace").rstrip("\r\n")
    if not secret or not secret.isprintable() or "\ufffd" in secret or len(content) > LARGEST_FILE:
        raise ValueError("a file that holds one secret: printable characters, UTF-8, one line")
    return SecretStr(secret), exposed


def _content(path: Path) -> tuple[bytes, bool]:
    with path.open("rb") as stream:
        return stream.read(LARGEST_FILE + 1), bool(os.fstat(stream.fileno()).st_mode & OTHERS_MAY_READ)
