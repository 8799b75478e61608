"""Rows that more than one table has: an unreadable record, and what a guard holds until an operator approves."""

from bringup.daemon.decisions.instances import UnreadableInstance
from bringup.daemon.decisions.outcomes import Kind, Problem
from bringup.daemon.decisions.rules import Facts, Guard, Next, Rule, nothing


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
