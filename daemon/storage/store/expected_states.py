"""A record against the states that it is expected to have.  Pure."""

from collections.abc import Iterable

from bringup.daemon.decisions.instances import Expected
from bringup.daemon.decisions.states import TaskState, UnknownState, VmState
from bringup.daemon.errors import StateConflict


def conflict(
    doing: str,
    uuid: str,
    vm_state: VmState | UnknownState,
    task_state: TaskState | UnknownState | None,
    expected: Expected,
) -> StateConflict | None:
    """Say that a record has none of the expected states of a kind; None: it has."""
    if vm_state in expected.vm_states and task_state in expected.task_states:
        return None
    return StateConflict(
        f"cannot {doing} instance {uuid}: it has vm_state {_word(vm_state)} and task_state "
        f"{_word(task_state)}, expected vm_state {_words(expected.vm_states)} and task_state "
        f"{_words(expected.task_states)}"
    )


def _word(state: VmState | TaskState | UnknownState | None) -> str:
    return "none" if state is None else str(state.value)


def _words(states: Iterable[VmState | TaskState | UnknownState | None]) -> str:
    return " or ".join(_word(state) for state in states) or "(nothing)"
