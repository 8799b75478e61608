"""Rows that more than one table has: unreadable records, instances of other hosts, and what a guard holds."""

from bringup.daemon.decisions.instances import UnreadableInstance
from bringup.daemon.decisions.outcomes import Kind, Problem
from bringup.daemon.decisions.rules import Facts, Guard, Next, Rule, nothing

EVACUATION_DONE = "done"


def has_come_back(facts: Facts) -> bool:
    """Check whether the instance belongs to this host although its evacuation from it is done."""
    return (
        facts.evacuation is not None
        and facts.evacuation.status == EVACUATION_DONE
        and facts.instance.host == facts.host
    )


def _describe_unreadable(facts: Facts) -> Problem | None:
    instance = facts.instance
    if not isinstance(instance, UnreadableInstance):
        return None
    return Problem(
        "decide",
        "Unreadable",
        f"cannot decide on {instance.uuid}: {instance.why}; its guest and its record are as they were; "
        f"{instance.remedy}",
    )


UNREADABLE = Rule(
    "unreadable",
    lambda f: isinstance(f.instance, UnreadableInstance),
    nothing,
    Next.END,
    "Its record cannot be read: nothing is done on a guess.",
    Kind.FAILED,
    tells=_describe_unreadable,
    condition="The record exists and cannot be read.",
)


NOT_OURS = Rule(
    "not_ours",
    lambda f: f.instance.host != f.host,
    nothing,
    Next.END,
    "Its record names another host: it was moved away meanwhile.",
    Kind.SKIPPED,
    condition="The record names another host.",
)
EVACUATED_AWAY = Rule(
    "evacuated",
    lambda f: f.evacuation is not None and not has_come_back(f),
    nothing,
    Next.END,
    "An evacuation from this host was accepted, runs or is done: another host starts it (Nova bug 1764883).",
    Kind.SKIPPED,
    condition=(
        "An evacuation from this host was accepted, is running or is done, and the record does not name this "
        "host again after it."
    ),
)


def _is_held(facts: Facts, guard: Guard) -> bool:
    return facts.hold is not None and facts.hold.guard is guard


HELD_ROWS: tuple[Rule, ...] = (
    Rule(
        Guard.QUARANTINED.value,
        lambda f: _is_held(f, Guard.QUARANTINED),
        nothing,
        Next.END,
        "It was being worked on each time the host died lately: it may be what kills it.",
        Kind.HELD,
        condition=(
            "The instance was being worked on when the host died, on as many boots in a row as "
            "`guards.quarantine_after` says, and no operator has released it."
        ),
    ),
    Rule(
        Guard.DESTRUCTION_HELD.value,
        lambda f: _is_held(f, Guard.DESTRUCTION_HELD),
        nothing,
        Next.END,
        "This run would destroy more guests than the guards allow: it destroys none before an operator approves.",
        Kind.HELD,
        condition=(
            "The run would destroy the guest, and more guests than `guards.destroy_at_most` and "
            "`guards.destroy_share` allow in all; no operator has released it."
        ),
    ),
)
