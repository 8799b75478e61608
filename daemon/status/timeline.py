"""Timeline of a run: values, colours and marks.  Drawn by the status page and by ``bringup plot``.

No I/O, no clock, no logger.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bringup.daemon.decisions.outcomes import BACK, Did, Kind
from bringup.daemon.text import in_plain_words


@dataclass(frozen=True, slots=True)
class Group:
    """Verbs with one colour."""

    label: str
    colour: str
    """Okabe and Ito's palette (https://jfly.uni-koeln.de/color/): distinct without red and green."""
    verbs: tuple[str, ...]


GROUPS: Mapping[str, Group] = {
    "look": Group("look", "#9aa0a6", ("look", "decide", "get_info")),
    "network": Group("network", "#56b4e9", ("plug_vifs", "ensure_filtering_rules_for_instance")),
    "power": Group("power", "#009e73", ("reboot", "start", "stop", "unpause", "resume_state_on_host_boot")),
    "migration": Group("migration", "#0072b2", ("finish_revert_migration", "live_migration_abort", "save_migration")),
    "records": Group(
        "records", "#e69f00", ("save", "set_error", "complete_partial_deletion", "delete", "destroy_guest")
    ),
    "clean": Group(
        "clean up", "#cc79a7", ("destroy_evacuated", "fence", "fence_foreign", "post_interrupted_snapshot_cleanup")
    ),
}
FAILED_COLOUR = "#d55e00"
OTHER = "look"
"""Of a verb that has no group."""
MARKS: Mapping[Kind, str] = {
    Kind.INITIALIZED: "✓",
    Kind.SKIPPED: "–",  # noqa: RUF001 - the dash is meant
    Kind.FAILED: "✕",
    Kind.SUPERSEDED: "⇄",
    Kind.HELD: "‖",
    Kind.DEFERRED: "…",
}
"""Outcomes, without colour."""
WARNING, WARNING_MARK = "warning", "!"
"""An instance that came back, with an action that failed."""
RUNNING_MARK = "▸"
LOST_MARK = "∅"
"""Of an instance that was settled as it should be and has no guest here any more."""


def outcome_text(kind: Kind, did: Did | None) -> str:
    """Return an outcome in words: what was done, after the outcome where that is not that all was done."""
    done = in_plain_words(None if did is None else did.value)
    if did is None or done == kind.value:
        return kind.value
    return done if kind is Kind.INITIALIZED else f"{kind.value} ({done})"


def mark_of(kind: Kind, did: Did | None) -> str:
    """Return the mark of an outcome: the tick is for guests that run, and for no others."""
    if kind is not Kind.INITIALIZED or did is None or did in BACK:
        return MARKS[kind]
    if did in (Did.DESTROYED, Did.DELETED):
        return LOST_MARK
    return MARKS[Kind.FAILED if did is Did.SET_TO_ERROR else Kind.SKIPPED]


def group_of(verb: str) -> str:
    """Return the name of a verb's group."""
    return next((name for name, group in GROUPS.items() if verb in group.verbs), OTHER)


@dataclass(frozen=True, slots=True)
class Segment:
    """One action; times are seconds since the timeline began."""

    verb: str
    began_s: float
    ended_s: float
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One instance."""

    uuid: str
    began_s: float
    ended_s: float
    kind: Kind | None
    """None: it was not settled."""
    did: Did | None = None
    """None: it was not settled, or an earlier version wrote the journal."""
    name: str = ""
    """Of the instance, for an operator; empty where it has none."""
    message: str | None = None
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """One run."""

    title: str
    subtitle: str
    bars: tuple[Bar, ...]
    counts: Mapping[str, int]

    @property
    def ends_s(self) -> float:
        """When the last bar ends."""
        return max((bar.ended_s for bar in self.bars), default=0.0)
