"""What a need means for a start: a table over the kind of the need, its state and who can meet it.

House rule: nothing is started on what is not known.  A need that is not met defers the guest, whatever it is; the table
says only whether it is tried again by itself.  No I/O, no clock, no logger.
"""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bringup.daemon.decisions.actions import Action, Reboot, ResumeStateOnHostBoot, RevertMigration, Start, Unpause
from bringup.daemon.decisions.rules import Facts, Plan, Rule, Step, as_it_will_be, decide, with_look
from bringup.daemon.decisions.states import PowerState
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedState

STARTS = (ResumeStateOnHostBoot, Start, Reboot, RevertMigration)
"""Actions that can start a guest in any state.  A revert requires the disks even where the guest stays off."""


class Follows(enum.Enum):
    """What follows from a need."""

    START = "the guest may start"
    TRY_AGAIN = "deferred, and tried again automatically"
    LEAVE = "deferred until it is met and the start is requested again"


@dataclass(frozen=True, slots=True)
class Meaning:
    """One row."""

    name: str
    when: Callable[[Need], bool]
    follows: Follows
    why: str
    condition: str
    """``when`` in plain English, for docs/rules.md."""


MEANINGS: tuple[Meaning, ...] = (
    Meaning(
        "met",
        lambda need: need.state is NeedState.MET,
        Follows.START,
        "It is there, and it is the right one.",
        condition="The need is met.",
    ),
    Meaning(
        "definition",
        lambda need: need.kind is NeedKind.DEFINITION and need.state is NeedState.ABSENT,
        Follows.LEAVE,
        "Nothing on a host creates the definition of a guest again.",
        condition="The definition of the guest is missing.",
    ),
    Meaning(
        "by_host",
        lambda need: need.met_by is MetBy.HOST,
        Follows.TRY_AGAIN,
        "A mount, a link or a device may come late.",
        condition="The host can meet the need by itself: a mount, a link or a device that may come late.",
    ),
    Meaning(
        "by_revert",
        lambda need: need.met_by is MetBy.REVERT,
        Follows.LEAVE,
        "A resize has moved it aside, and nothing rolls that back.",
        condition="Only rolling back a resize can meet the need.",
    ),
    Meaning(
        "by_nova",
        lambda need: need.met_by is MetBy.NOVA,
        Follows.LEAVE,
        "nova-compute prepares it.",
        condition="nova-compute can meet the need.",
    ),
    Meaning(
        "by_person",
        lambda need: need.met_by is MetBy.PERSON,
        Follows.LEAVE,
        "An operator has to provide it.",
        condition="Only an operator can meet the need.",
    ),
)


def meaning_of(need: Need) -> Meaning:
    """Find the first row that holds."""
    return next(row for row in MEANINGS if row.when(need))


def unmet(needs: Sequence[Need], *, reverting: bool = False) -> tuple[Need, ...]:
    """Return the unmet needs that prevent a start; ``reverting``: a resize is rolled back before it."""
    return tuple(
        need
        for need in needs
        if meaning_of(need).follows is not Follows.START and not (reverting and need.met_by is MetBy.REVERT)
    )


def is_tried_again(needs: Sequence[Need]) -> bool:
    """Check whether a guest with these unmet needs is tried again automatically: all may be met without an operator."""
    found = unmet(needs)
    return bool(found) and all(meaning_of(need).follows is Follows.TRY_AGAIN for need in found)


def can_start(action: Action, look: PowerState | None) -> bool:
    """Check whether an action can start a guest that was last seen like this; None: it was not seen."""
    return isinstance(action, STARTS) or (isinstance(action, Unpause) and look is not PowerState.PAUSED)


def starts(
    steps: Sequence[Step],
    rest: Sequence[Sequence[Rule] | None],
    facts: Facts,
    read: Callable[[Sequence[Rule], Facts], Plan] = decide,
) -> bool:
    """Check whether a guest may be started by these steps, or by what the tables after them give.

    ``facts`` are those that the steps were decided on.  Where the power state is still to be read (None in ``rest``)
    and nothing was seen yet, every power state is thought of; later a guest is taken to stay as it was seen.
    """
    if any(can_start(step.action, facts.look) for step in steps):
        return True
    tables = [table for table in rest if table is not None]
    if not tables:
        return False
    for step in steps:
        facts = as_it_will_be(facts, step.action)
    for look in (facts.look,) if facts.look is not None else PowerState:
        seen = with_look(facts, look)
        plan = read(tables[0], seen)
        if starts(plan.steps, () if plan.ends else tables[1:], seen, read):
            return True
    return False
