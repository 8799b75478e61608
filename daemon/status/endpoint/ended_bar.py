"""Bar of an instance that was settled.

The daemon keeps its facts as JSON: ten thousand of them are a few megabytes, and sending one costs no more than copying
its text.  What the page shows of it in words is made where it is shown first, by the process that answers.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from bringup.daemon.decisions.outcomes import Did, Kind, attention_of
from bringup.daemon.status.endpoint.event_feed import encoded
from bringup.daemon.status.timeline import WARNING, WARNING_MARK, mark_of, outcome_text
from bringup.daemon.text import in_plain_words
from bringup.daemon.time_spans import in_words

LONGEST: Final = 6
"""So many actions of an instance are named with the time that they took."""


def attention_text(kind: Kind, did: Did, *, warns: bool) -> str | None:
    """Return why an instance needs attention, in words; None where it does not."""
    found = attention_of(kind, did)
    if found is None:
        return WARNING if warns else None
    return in_plain_words(found.value)


class EndedBar:
    """Facts as JSON, and how long the instance took; its texts are made when it is first shown."""

    __slots__ = ("_texts", "facts", "took_s")

    def __init__(self, facts: str, took_s: float) -> None:
        """Keep the facts."""
        self.facts = facts
        self.took_s = took_s
        self._texts: str | None = None

    def shown(self) -> str:
        """Return facts and texts as JSON."""
        if self._texts is None:
            self._texts = encoded(_texts(json.loads(self.facts), self.took_s))
        return f"{self.facts[:-1]},{self._texts[1:]}"


def _texts(facts: Mapping[str, Any], took_s: float) -> dict[str, Any]:
    """Return what the page shows of a bar as it is."""
    kind, did = Kind(facts["outcome"]), Did(facts["did"])
    attention = attention_text(kind, did, warns=facts["warnings"] > 0)
    took, because = in_words(took_s), " > ".join(facts["because"]) or "no rule held"
    longest = sorted(facts["actions"], key=lambda action: -action[2])[:LONGEST]
    return {
        "mark": WARNING_MARK if attention == WARNING else mark_of(kind, did),
        "attention": attention,
        "took": took,
        "summary": f"{outcome_text(kind, did)} after {took}, because {because}",
        "longest": " · ".join(
            f"{verb} {in_words(took_s)}{' (failed)' if failed else ''}" for verb, _, took_s, failed in longest
        ),
    }
