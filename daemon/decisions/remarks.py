"""What a person should know of an instance whose reading has ended, and that changes nothing of what is done."""

from collections.abc import Iterator, Sequence

from bringup.daemon.decisions.actions import CompletePartialDeletion, Delete, Reboot, Start, Stop, Unpause
from bringup.daemon.decisions.from_evacuation import has_come_back
from bringup.daemon.decisions.migrating import left_over, tell_left_over
from bringup.daemon.decisions.outcomes import Kind, Problem
from bringup.daemon.decisions.rules import UNTROUBLED, Facts, Step
from bringup.daemon.decisions.stuck_tasks import tell_stuck

OPERATIONS = (CompletePartialDeletion, Delete, Reboot, Start, Stop, Unpause)


def remarks(before: Facts, after: Facts, kind: Kind, steps: Sequence[Step] = ()) -> tuple[Problem, ...]:
    """Give them: ``before`` are the facts with the record as it was found, ``after`` as the run leaves it.

    ``steps`` are what is still to be done: an operation clears the task state when it is.
    """
    is_ours = after.instance.host == after.host and (after.evacuation is None or has_come_back(after))
    return (
        tuple(_remarks(before, after, is_operated=any(isinstance(step.action, OPERATIONS) for step in steps)))
        if kind in UNTROUBLED and is_ours and after.transition is None
        else ()
    )


def _remarks(before: Facts, after: Facts, *, is_operated: bool) -> Iterator[Problem]:
    rows = left_over(before, after)
    if rows:
        yield tell_left_over(rows, after.instance.uuid)
    if after.instance.task_state is not None and not is_operated:
        yield tell_stuck(after)
