"""What is done with a guest that this hypervisor still has although its instance was evacuated."""

from bringup.daemon.decisions.actions import Action, DestroyEvacuated, Fence, SaveMigration
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.rules import Facts, Next, Rule, always, nothing
from bringup.daemon.decisions.shared_rows import EVACUATION_DONE, HELD_ROWS, UNREADABLE, has_come_back

EVACUATION_RUNNING = ("accepted", "pre-migrating")


def _complete(facts: Facts) -> tuple[Action, ...]:
    """`save migration status=completed`."""
    return () if facts.evacuation is None else (SaveMigration(facts.evacuation.uuid, "completed"),)


def _destroy(facts: Facts) -> tuple[Action, ...]:
    """`destroy_evacuated`, then `save migration status=completed`."""
    return DestroyEvacuated(), *_complete(facts)


EVACUATED: tuple[Rule, ...] = (
    UNREADABLE,
    Rule(
        "evacuated_and_back",
        has_come_back,
        nothing,
        Next.END,
        "It was evacuated once and belongs to this host again: the old evacuation says nothing of it.",
        condition="The evacuation is done, and the record names this host.",
    ),
    Rule(
        "evacuation_running",
        lambda f: f.evacuation is not None and f.evacuation.status in EVACUATION_RUNNING,
        always(Fence()),
        Next.END,
        "Its evacuation is not done: it must not run here, and its disks must not be lost if the evacuation fails.",
        Kind.SKIPPED,
        condition="The evacuation is `accepted` or `pre-migrating`.",
    ),
    *HELD_ROWS,
    Rule(
        "evacuated_and_gone",
        lambda f: f.guest_gone,
        _complete,
        Next.END,
        "Its guest was destroyed when the run was cut short; only the migration does not say so.",
        condition="The hypervisor has no such guest.",
    ),
    Rule(
        "evacuated",
        lambda f: f.evacuation is not None and f.evacuation.status == EVACUATION_DONE,
        _destroy,
        Next.END,
        "It was evacuated from this host and still exists in its hypervisor.",
        condition="The evacuation is `done`.",
    ),
)
