"""What our table should be, in a form that can be compared with what it is, and put back.  Pure.

Put back is a replay: what was found in the table when it was opened, then the last word on each instance.
"""

import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

from bringup.drivers.network.rules.ruleset import TABLE, Owned, Replacement, transaction

# What guests have exchanged of late: it comes and goes.
_EXCHANGES: Final = re.compile(r"(\bset \S+ \{[^{}]*?)\belements = \{[^{}]*\}")


@dataclass(slots=True)
class History:
    """What was found, and what was put in place since."""

    found: str = ""
    """The table as ``nft list table`` wrote it when it was opened."""
    had: Owned = field(default_factory=dict)
    """Devices of each instance in it."""
    last: dict[str, Replacement] = field(default_factory=dict)

    def add(self, one: Replacement) -> None:
        """Take note of what was put in place; the last of all is the last to be replayed."""
        self.last.pop(one.instance, None)
        if one.filters or one.instance in self.had:
            self.last[one.instance] = one

    def replay(self) -> str:
        """Write the transaction after which the table is as it should be, whatever it is now."""
        lines = [f"add table {TABLE}", f"delete table {TABLE}", _EXCHANGES.sub(r"\1", self.found)]
        return "\n".join([*lines, transaction(self.last.values(), self.had)])


def shape(listing: str) -> tuple[str, ...]:
    """Give what ``nft -j list table`` wrote without what changes by itself, to be compared."""
    things: list[str] = []
    rules: dict[str, list[str]] = defaultdict(list)
    for entry in json.loads(listing)["nftables"]:
        ((kind, thing),) = entry.items()
        if kind == "metainfo":
            continue
        plain = {key: value for key, value in thing.items() if key not in ("handle", "index")}
        if kind == "rule":
            plain["expr"] = [_uncounted(statement) for statement in plain.get("expr", ())]
            rules[plain["chain"]].append(_text(plain))
            continue
        elements = plain.pop("elem", [])
        if kind == "map":
            plain["elem"] = sorted(map(_text, elements))
        things.append(f"{kind} {_text(plain)}")
    # Only rules have an order among themselves.
    return (*sorted(things), *(text for chain in sorted(rules) for text in rules[chain]))


def _uncounted(statement: Any) -> Any:
    return {"counter": None} if isinstance(statement, dict) and "counter" in statement else statement


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
