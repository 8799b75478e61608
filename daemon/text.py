"""Text of others, made fit for a terminal: a record, a service or a file may hold anything.

An escape sequence would be obeyed, a line break would forge a line of ours, a bidirectional control would turn what
follows around.  All of it is written as Python would write it in a string.  Pure.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

VISIBLE: Final = re.compile(r"[!-~]+")
"""What a header, an address or a token may hold: ASCII that can be seen, no spaces."""
LONGEST_LINE: Final = 4000
"""Characters of one line of a message: enough for a list of a hundred UUIDs."""
LONGEST_NAME: Final = 80
"""Characters of a name that somebody else gave."""
_AT: Final = ("@", "\uff20", "%40")
_LOGIN: Final = re.compile(r"//|%2F%2F", re.IGNORECASE)
_LOGIN_ALONE: Final = re.compile(r"(?:^|(?<=[\s\"']))[a-z][a-z0-9+.-]*:", re.IGNORECASE)
"""Where the slashes are missing, or one of them."""
_FRAGMENT: Final = re.compile(r"#[^\s\"']+")
"""It names nothing at a server: who writes one into an address has a password with a ``#`` in it."""
_NAMED: Final = re.compile(
    r"(pass|pwd|pw|secret|token|credential|auth|api_?key)([a-z0-9_-]{0,40}(?:\\?[\"']\s{0,9}:|\\?[\"']?\s{0,9}=)\s{0,9})"
    r"(\\\"[^\\\"]*(?:\\\")?|\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?|\[[^\]]*\]?|[^\s&;,\"'}\]]+)",
    re.IGNORECASE,
)
"""A word that names a secret, and what it is set to: in a query, a line of libpq, JSON.  Linear in the text."""


def printable(text: str) -> str:
    """Return a text in one line that a terminal shows and does not interpret."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def labelled(uuid: str, name: str) -> str:
    """Return an instance as an operator reads it: ``web (6f1b7c0e-...)``, its UUID alone where it has no name."""
    return f"{printable(name)} ({uuid})" if name and name != uuid else uuid


def in_plain_words(did: str | None) -> str:
    """Return the value of a ``Did`` in words (``left_running``: ``left running``), ``?`` where it is not known yet."""
    return "?" if did is None else did.replace("_", " ")


def counted(counts: Mapping[str, int]) -> str:
    """Return counts in words: ``16 started, 6 left running``."""
    return ", ".join(f"{count} {in_plain_words(did)}" for did, count in counts.items() if count)


def line(text: str) -> str:
    """Return a text in one line of bounded length, for a message."""
    return short(printable(text[: LONGEST_LINE + 1]), LONGEST_LINE)


def short(text: str, most: int = LONGEST_NAME) -> str:
    """Return a text, or its beginning and three dots."""
    return text if len(text) <= most else f"{text[:most]}..."


def quoted(text: str, most: int = 40) -> str:
    """Return the beginning of a text in quotes, for a sentence; what a terminal would interpret is a question mark."""
    return f'"{short("".join(one if one.isprintable() else "?" for one in text[: most + 1]), most)}"'


def without_login(text: str) -> str:
    """Return a text without what may stand before a host in an address, a user and a password, or in its query.

    Up to the last ``@``: a password that is not written as one should be may have a slash or another ``@`` in it.
    """
    last, sign = max((text.rfind(sign), sign) for sign in _AT)
    if last >= 0:
        before, after = text[:last], text[last + len(sign) :]
        if found := _LOGIN.search(before):
            text = f"{before[: found.start()]}//***@{after}"
        elif found := _LOGIN_ALONE.search(before):
            text = f"{before[: found.end()]}***@{after}"
    if "//" in text:
        text = _FRAGMENT.sub("#***", text)
    return _NAMED.sub(r"\1\2***", text)


def one_line_of_json(facts: Mapping[str, Any]) -> str:
    """Return JSON in one line that a terminal shows and does not interpret; parsed, it is the same."""
    text = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)
