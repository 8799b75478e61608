"""How much memory the values of a JSON text will take, told before they are made.

Two bytes of a file (``[]``) can become more than a hundred of a process.  What is a text inside of quotes costs what it
is long, so that no tenant can make a file heavy by what is written into metadata.  Pure.
"""

from collections.abc import Iterator
from typing import Any

OF_A_CONTAINER = 240
"""Bytes that a small object of CPython with one key takes, which a list never does; more keys have commas."""
OF_A_COMMA = 80
"""Bytes that a number, a short text, or a key and its place take."""
MOST_ENTRIES = 10_000
"""Of the objects and lists of one record that are checked one by one; a record of Nova has some hundred."""
LEVELS = 4
"""How deep they lie: a record, its addresses, those of a network, what one of them has."""
CHUNK = 1 << 20


def weight_of(text: str, *, chunk: int = CHUNK) -> int:
    """Estimate from above how many bytes the objects, lists, numbers and short texts of a JSON text will take."""
    containers = commas = 0
    for outside in _outside_of_texts(text, chunk):
        containers += outside.count("[") + outside.count("{")
        commas += outside.count(",")
    return containers * OF_A_CONTAINER + commas * OF_A_COMMA


def has_too_many_entries(record: Any) -> bool:
    """Tell whether a record has more entries than any has: each that is wrong would be a problem of its own."""
    level: list[Any] = [record] if isinstance(record, dict | list) else []
    count = 0
    for _ in range(LEVELS):
        inner: list[Any] = []
        for each in level:
            count += len(each)
            if count > MOST_ENTRIES:
                return True
            values = each.values() if isinstance(each, dict) else each
            inner += (value for value in values if isinstance(value, dict | list))
        level = inner
    return False


def _outside_of_texts(text: str, size: int) -> Iterator[str]:
    """Give what is not inside of quotes, a chunk at a time: a large file is not copied whole."""
    inside = False
    escape = ""
    for start in range(0, len(text), size):
        # An escape that the chunk cuts in two is completed by the next one.
        chunk = (escape + text[start : start + size]).replace("\\\\", "")
        escape = "\\" if chunk.endswith("\\") else ""
        parts = chunk.removesuffix(escape).replace('\\"', "").split('"')
        yield "".join(parts[1 if inside else 0 :: 2])
        inside ^= len(parts) % 2 == 0
