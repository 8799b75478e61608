"""Notes for an operator on an instance whose reading has ended; they change nothing of what is done."""

from collections.abc import Iterator, Sequence

from bringup.daemon.decisions.actions import CompletePartialDeletion, Delete, Reboot, Start, Stop, Unpause
from bringup.daemon.decisions.migrating import left_over, tell_left_over
from bringup.daemon.decisions.outcomes import Kind, Problem
from bringup.daemon.decisions.rules import UNTROUBLED, Facts, Step
from bringup.daemon.decisions.shared_rows import has_come_back
from bringup.daemon.decisions.states import VmState

OPERATIONS = (CompletePartialDeletion, Delete, Reboot, Start, Stop, Unpause)


def _describe_stuck(facts: Facts) -> Problem:
    """Describe the task state that keeps its user out, and the command that clears it."""
    uuid, task_state = facts.instance.uuid, facts.instance.task_state
    state = "error" if facts.instance.vm_state is VmState.ERROR else "active"
    return Problem(
        "decide",
        "TaskStateLeftOver",
        f"task_state {None if task_state is None else task_state.value} is left of something that was cut short, and "
        f"Nova refuses (409) what its user asks for; if nobody works on it any more, clear it with: "
        f"openstack server set --state {state} {uuid}",
    )


def remarks(before: Facts, after: Facts, kind: Kind, steps: Sequence[Step] = ()) -> tuple[Problem, ...]:
    """Return them: ``before`` are the facts with the record as it was found, ``after`` as the run leaves it.

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
        yield _describe_stuck(after)
