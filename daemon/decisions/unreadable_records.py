"""The first row of each table: an instance whose record is there and cannot be read."""

from bringup.daemon.decisions.instances import UnreadableInstance
from bringup.daemon.decisions.outcomes import Kind, Problem
from bringup.daemon.decisions.rules import Facts, Next, Rule, nothing


def _tell(facts: Facts) -> Problem | None:
    instance = facts.instance
    if not isinstance(instance, UnreadableInstance):
        return None
    return Problem(
        "decide",
        "Unreadable",
        f"cannot decide on {instance.uuid}: {instance.why}; its guest and its record are as they were; {instance.mend}",
    )


UNREADABLE = Rule(
    "unreadable",
    lambda f: isinstance(f.instance, UnreadableInstance),
    nothing,
    Next.END,
    "Its record cannot be read: nothing is done on a guess.",
    Kind.FAILED,
    tells=_tell,
    condition="The record exists and cannot be read.",
)
