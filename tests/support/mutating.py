"""Valid input made hostile: wrong types, missing and foreign keys, huge numbers, deep nesting, bytes that were lost.

What it does is chosen by a :class:`random.Random`, so that a seed says which input it was.
"""

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, Final

DEEP: Final = 400
"""Levels that ``json.dumps`` still writes."""
TOO_DEEP: Final = 100_000
NUMBERS: Final[tuple[Any, ...]] = (0, -1, 1, 255, 65535, 65536, 2**31, 2**63, 2**64, 10**400, 0.5, 1e308, float("inf"))
TEXTS: Final = (
    "",
    " ",
    "0",
    "-1",
    "1" * 5000,
    "x" * 70_000,
    "\x00",
    "a\nb",
    "\r\nX: y",
    "\x1b]0;title\x07\x1b[2J",
    "\x9b2J",
    "\u202egnp.exe",
    "\ud800",
    "\U0001f600",
    "../../etc/passwd",
    "/etc/passwd",
    "*",
    "%s%n$_{}",
    '"; flush ruleset; "',
    "fe80::1%x",
    "{}",
    "null",
    "None",
    "true",
    "\u0663",
    "٣" * 5000,
    "&lt;<!--",
    "2026-13-45T99:99:99Z",
)


def nested(levels: int) -> Any:
    """Return lists in lists."""
    found: Any = []
    for _ in range(levels):
        found = [found]
    return found


VALUES: Final[Sequence[Callable[[], Any]]] = (
    lambda: None,
    lambda: True,
    lambda: False,
    dict,
    list,
    lambda: [[]],
    lambda: {"": {}},
    lambda: [None] * 300,
    lambda: nested(DEEP),
)


def hostile(chance: Random) -> Any:
    """Return a value that nobody expects."""
    match chance.randrange(3):
        case 0:
            return chance.choice(TEXTS)
        case 1:
            return chance.choice(NUMBERS)
        case _:
            return chance.choice(VALUES)()


def mutated(chance: Random, plain: Any, *, most: int = 3, copies: bool = True) -> Any:
    """Change a value of JSON in a few places; without ``copies`` no value, such as a secret, comes to another place."""
    # One more above it, so that the whole may be replaced as well.
    above = [copy.deepcopy(plain)]
    for _ in range(chance.randint(1, most)):
        _change(chance, above, copies=copies)
    return above[0]


def _change(chance: Random, above: list[Any], *, copies: bool) -> None:
    places = list(_places(above))
    # Rarely the whole: little of the reader is met then.
    parent, key = places[chance.randrange(len(places)) if chance.randrange(30) else 0]
    match chance.randrange(6):
        case 0 if len(places) > 1 and parent is not above:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[chance.choice(TEXTS)] = hostile(chance)
        case 2 if isinstance(parent, list) and parent is not above:
            parent.insert(key, copy.deepcopy(parent[key]))
        case 3 if copies:
            other, at = places[chance.randrange(len(places))]
            parent[key] = copy.deepcopy(other[at])
        case _:
            parent[key] = hostile(chance)


def changed_lines(chance: Random, text: str, *, most: int = 3, quoted: bool = False) -> bytes:
    """Change a file of ``key = value``: a value that nobody expects, a line that is not there, or there twice.

    ``quoted``: it is TOML, and is to stay so as a rule, or little but its parser is met.
    """
    lines = text.splitlines()
    for _ in range(chance.randint(1, most)):
        at = chance.randrange(len(lines))
        key, equals, _value = lines[at].partition("=")
        match chance.randrange(12):
            case 0 | 1 if equals:
                lines[at] = ""
            case 2 if equals or not quoted:
                lines.insert(at, lines[at])
            case 3 if equals:
                lines[at] = f"{_quoted(chance.choice(TEXTS)[:300]) if quoted else chance.choice(TEXTS)[:300]} = 1"
            case 4 | 5 if equals and not quoted:
                lines[at] = f"{key}= {chance.choice(TEXTS)}"
            case _ if equals:
                lines[at] = f"{key}= {_quoted(hostile(chance))}"
            case 6:
                lines[at] = f"[{chance.choice(TEXTS)[:300]}]"
            case _:
                pass
    data = "\n".join([*lines, ""]).encode(errors="surrogatepass")
    return mangled(chance, data) if chance.randrange(12 if quoted else 6) == 0 else data


def _quoted(value: Any) -> str:
    """Write a value as TOML does, as far as it can."""
    if isinstance(value, str):
        # Half of a surrogate pair, and what is above, is written as it is.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return '{ "" = {} }' if value else "{}"
    if isinstance(value, list):
        return json.dumps(value).replace("null", "0")
    return {None: '""', float("inf"): "inf"}.get(value) or json.dumps(value)


def _places(value: Any, left: int = 40) -> Iterator[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        if left:
            yield from _places(value[key], left - 1)


def written(chance: Random, plain: Any) -> bytes:
    """Write JSON, at times as nobody writes it: with a key twice, with what JSON does not have, half of it."""
    text = json.dumps(plain, ensure_ascii=chance.randrange(4) > 0)
    data = text.encode(errors="surrogatepass")
    if chance.randrange(6) == 0:
        data = data.replace(b"{", b'{"": 1, "": {}, ', 1)
    return mangled(chance, data) if chance.randrange(5) == 0 else data


def mangled(chance: Random, data: bytes, *, most: int = 2) -> bytes:
    """Damage bytes in a few places."""
    for _ in range(chance.randint(1, most)):
        at = chance.randrange(len(data) + 1)
        to = min(len(data), at + chance.randrange(16))
        match chance.randrange(7):
            case 0:
                data = data[:at]
            case 1:
                data = data[:at] + data[to:]
            case 2:
                data = data[:at] + data[at:to] * 3 + data[to:]
            case 3:
                data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
            case 4:
                data = data[:at] + chance.choice((b"\xff\xfe", b"\x00", b"\xed\xa0\x80", b"\xef\xbb\xbf")) + data[at:]
            case 5:
                data = data[:at] + chance.choice((b"[", b'{"a":')) * chance.choice((2, TOO_DEEP)) + data[at:]
            case _:
                data = data[:at] + chance.choice(TEXTS).encode(errors="surrogatepass") + data[at:]
    return data
