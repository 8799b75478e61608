"""Every lifecycle row: an event arrives; what happens to the record and the guest.

Nova calls its own API to stop or delete: the API takes the task state, and asks for an active instance with ``stop``,
else with ``force_stop``.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

from bringup.daemon.decisions.actions import Action, Delete, Save, Stop
from bringup.daemon.decisions.from_event import LIFECYCLE
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.rules import Facts, Plan, decide
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.drivers.base import Transition
from support.oracle import rows, why_missing
from support.oracle_cells import GONE, TASK_STATES, VM_STATES, every_cell
from support.oracle_replay import HOSTS, instance_of
from support.oracle_tally import Tally
from support.oracle_words import Row, is_call

DOMAINS: Mapping[str, Sequence[object]] = {
    "host": ["own", "other"],
    "vm_state": VM_STATES,
    "task_state": TASK_STATES,
    "db_power": [0, 1, 3, 4, 6, 7, None],
    "drv_power": [0, 1, 3, 4, 6, 7, GONE],
    "shutdown_terminate": [False, True],
}
SOME_TASK_STATES = 7
"""Every seventh of them, None among them, is taken, unless every cell was asked for."""
READS = ("inst.get_by_uuid", "drv.get_info", "inst.refresh")
LATE = ["inst.get_by_uuid(read_deleted=yes,expected_attrs=[])", "drv.get_info"]
"""The event is late: Nova does not even read the record again."""


def _read(name: str) -> list[Row]:
    if reason := why_missing(name):
        pytest.skip(reason)
    return rows(name)


def _cells(case: Row) -> Iterator[Row]:
    spread = []
    for column, whole in DOMAINS.items():
        cell = case[column]
        domain = whole if column != "task_state" or every_cell() else whole[::SOME_TASK_STATES]
        if cell == "any":
            spread.append([state for state in domain if state is not None])
        elif cell == "*":
            spread.append(list(domain))
        else:
            spread.append(cell if isinstance(cell, list) else [cell])
    for some in itertools.product(*spread):
        yield dict(zip(DOMAINS, some, strict=True))


def _plan(cell: Row, event: str) -> Plan:
    power = cell["drv_power"]
    look = PowerState.NOSTATE if power == GONE else PowerState(power)
    instance = instance_of(cell)
    return decide(LIFECYCLE, Facts(instance=instance, host=HOSTS["own"], look=look, transition=Transition(event)))


def _words(plan: Plan, cell: Row) -> list[str]:
    """Put the steps of a plan into Nova's words."""
    words: list[str] = []
    actions = [step.action for step in plan.steps]
    while actions:
        action = actions.pop(0)
        if isinstance(action, Save) and set(action.changes) == {"power_state"}:
            words.append(f"save{{power={action.changes['power_state'].value}}}")
        else:
            words.append(_api_call(action, actions.pop(0) if actions else None, cell))
    return words


def _api_call(taken: Action, done: Action | None, cell: Row) -> str:
    if taken == Save({"task_state": TaskState.POWERING_OFF}, expected_task_states=(None,)) and done == Stop():
        return "api.stop" if cell["vm_state"] == VmState.ACTIVE.value else "api.force_stop"
    if taken == Save({"task_state": TaskState.DELETING}, expected_task_states=(None,)) and done == Delete():
        return "api.delete"
    return f"{taken}, {done}"


def _difference(case: Row, cell: Row, outcome: Row) -> str | None:
    plan = _plan(cell, case["event"])
    expected = [token for token in outcome["trace"] if is_call(token) and not token.startswith(READS)]
    had = _words(plan, cell)
    late = plan.because == ("event_outdated",)
    if had != expected or late != (outcome["trace"] == LATE):
        return f"{case} in the cell {cell}: expected {expected}, had {had} because of {plan.because}"
    if plan.kind not in (Kind.INITIALIZED, Kind.SKIPPED) or (plan.kind is Kind.SKIPPED and had):
        return f"{case} in the cell {cell}: {had} came out as {plan.kind}"
    return None


def test_each_event_ends_as_it_does_in_nova(record_property: Callable[[str, object], None]) -> None:
    cases = _read("lifecycle_cases")
    outcomes = {row["id"]: row for row in _read("lifecycle_outcomes")}
    tally = Tally("lifecycle_cases.jsonl", cases)
    for case in cases:
        cells = list(_cells(case))
        differences = (_difference(case, cell, outcomes[case["outcome"]]) for cell in cells)
        tally.replayed(runs=len(cells), problems=[found for found in differences if found])
    tally.close(record_property)
