"""Conflicts that forbid to write a record or to start its guest: another state, or another host.  Pure."""

from collections.abc import Iterable

from bringup.daemon.decisions.describe import state_word
from bringup.daemon.decisions.instances import Expected, Migration
from bringup.daemon.decisions.migrating import REVERTED, leaving
from bringup.daemon.decisions.states import TaskState, UnknownState, VmState
from bringup.daemon.errors import StateConflict


def conflict(
    doing: str,
    uuid: str,
    vm_state: VmState | UnknownState,
    task_state: TaskState | UnknownState | None,
    expected: Expected,
) -> StateConflict | None:
    """Return the conflict if a record has none of the expected states of a kind; None if it has one."""
    if vm_state in expected.vm_states and task_state in expected.task_states:
        return None
    return StateConflict(
        f"cannot {doing} instance {uuid}: it has vm_state {state_word(vm_state)} and task_state "
        f"{state_word(task_state)}, expected vm_state {_words(expected.vm_states)} and task_state "
        f"{_words(expected.task_states)}"
    )


def _words(states: Iterable[VmState | TaskState | UnknownState | None]) -> str:
    return " or ".join(state_word(state) for state in states) or "(nothing)"


def moved(
    uuid: str, recorded: str | None, here: str, moves: Iterable[Migration], *, reverting: bool
) -> StateConflict | None:
    """Return the conflict if an instance is another host's, or on its way there; None if it is ``here`` and stays."""
    if recorded != here:
        return StateConflict(f"{uuid} is on host {recorded} now, it was on {here}")
    for move in leaving(moves, here):
        if not (reverting and move.migration_type in REVERTED):
            return StateConflict(
                f"{uuid} is on its way to another host: {move.migration_type} {move.uuid} is {move.status}"
            )
    return None
