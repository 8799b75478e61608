"""Text of others, made fit for a terminal: a record, a service or a file may hold anything.

An escape sequence would be obeyed, a line break would forge a line of ours, a bidirectional control would turn what
follows around.  All of it is written as Python would write it in a string.  Pure.
"""

import json
from collections.abc import Mapping
from typing import Any


def printable(text: str) -> str:
    """Give a text in one line that a terminal shows and does not obey."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def one_line_of_json(facts: Mapping[str, Any]) -> str:
    """Give JSON in one line that a terminal shows and does not obey; whoever reads it gets what was written."""
    text = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)
