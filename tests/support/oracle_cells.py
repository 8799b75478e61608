"""Cells of the oracle's tables: the facts of one instance, one value each.

A row stands for all cells of its box.  Of a big box a few cells are taken that cover each value of each column;
``BRINGUP_ORACLE_CELLS=every`` takes all of them.
"""

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bringup.daemon.decisions.states import TaskState, VmState
from support.oracle_words import Row

GONE = "gone"
_DB = [0, 1, 3, 4, 6, 7, None]
_DRV = [0, 1, 3, 4, 6, 7, GONE]
DOMAINS: Mapping[str, Sequence[object]] = {
    "db_power": _DB,
    "drv_power": _DRV,
    "drv_power1": _DRV,
    "drv_power2": _DRV,
    "resume": [False, True],
    "old_vm_state": [None, "stopped", "active"],
}
COLUMNS: Mapping[str, Sequence[str]] = {
    "shallow": ("db_power", "drv_power1", "drv_power2", "resume", "old_vm_state"),
    "deep": ("db_power", "drv_power", "resume", "old_vm_state"),
}
VM_STATES = [state.value for state in VmState]
TASK_STATES = [None, *(state.value for state in TaskState)]
# Values that decide; the others stand beside them once each.
_TELLING: Mapping[str, Sequence[object]] = {
    "db_power": (1, None),
    "drv_power": (1, 3, 4, GONE),
    "drv_power1": (1, 3, 4, GONE),
    "drv_power2": (1, 4),
    "resume": (False, True),
    "old_vm_state": (None, "stopped"),
}
# What the faults were run with (README, "Sampled states").
_SAMPLED: Mapping[str, Sequence[object]] = {
    "db_power": (1, 4, None),
    "drv_power": (0, 1, 3, 4, 6, 7),
    "drv_power1": (0, 1, 3, 4, 6, 7),
    "drv_power2": (0, 1, 3, 4, 6, 7),
    "resume": (False, True),
    "old_vm_state": (None, "stopped"),
}


def every_cell() -> bool:
    """Check whether all cells were asked for."""
    return os.environ.get("BRINGUP_ORACLE_CELLS") == "every"


def values(cell: object, column: str) -> list[object]:
    """Spread a table's cell out: a value, a list of values, or ``*``."""
    if cell == "*":
        return list(DOMAINS[column])
    return list(cell) if isinstance(cell, list) else [cell]


def cells_of(row: Row, table: str) -> Iterator[Row]:
    """Return cells of a case row: every value of every column is among them."""
    columns = COLUMNS[table]
    all_values = {column: values(row[column], column) for column in columns}
    states = [(row["vm_state"], row["task_state"])]
    if row["host"] == "other":
        states = list(itertools.product(VM_STATES, TASK_STATES))
        all_values = {column: some[:2] for column, some in all_values.items()}
    for vm_state, task_state in states:
        for cell in _spread(all_values):
            yield {**cell, "host": row["host"], "vm_state": vm_state, "task_state": task_state}


def _spread(all_values: Mapping[str, list[object]]) -> Iterator[Row]:
    if every_cell():
        yield from _product(all_values)
        return
    telling = {column: [v for v in some if v in _TELLING[column]] or some[:1] for column, some in all_values.items()}
    yield from _product(telling)
    first = {column: some[0] for column, some in telling.items()}
    for column, some in all_values.items():
        for value in some:
            if value not in telling[column]:
                yield {**first, column: value}


def sampled_cells(row: Row, table: str) -> Iterator[Row]:
    """Return the cells of a case row that the faults were run with."""
    columns = COLUMNS[table]
    some = {c: [v for v in values(row[c], c) if v in _SAMPLED[c]] for c in columns}
    for cell in _product(some):
        if "drv_power1" in cell and not _were_read(cell["drv_power1"], cell["drv_power2"]):
            continue
        yield {**cell, "host": row["host"], "vm_state": row["vm_state"], "task_state": row["task_state"]}


def _were_read(first: object, second: object) -> bool:
    return first == second or {first, second} == {1, 4}


def all_sampled_cells(table: str) -> Iterator[Row]:
    """Return every cell that the faults were run with, of whatever states."""
    whole = {"host": "own", **dict.fromkeys(COLUMNS[table], "*")}
    for vm_state, task_state in itertools.product(VM_STATES, TASK_STATES):
        yield from sampled_cells({**whole, "vm_state": vm_state, "task_state": task_state}, table)


def matches(cell: Row, alternatives: Sequence[Row] | None) -> bool:
    """Check whether a fault row's ``when`` holds for a cell."""
    if alternatives is None:
        return True
    return any(all(cell[column] in some for column, some in alternative.items()) for alternative in alternatives)


def a_few(cells: Iterable[Row], *, of_each_pair: int, at_least: int = 0) -> list[Row]:
    """Choose so many cells of each pair of states, unlike each other, and more of each where the pairs are few."""
    pairs: dict[tuple[str, str | None], list[Row]] = {}
    for cell in cells:
        pairs.setdefault((cell["vm_state"], cell["task_state"]), []).append(cell)
    count = max(of_each_pair, at_least // len(pairs)) if pairs else 0
    few: list[Row] = []
    for number, some in enumerate(pairs.values()):
        # Of the next pair the next ones: what one pair leaves out, another has.
        begin = number * count % len(some)
        order = mixed(some)
        few += (order[begin:] + order[:begin])[:count]
    return few


def mixed(cells: Sequence[Row]) -> list[Row]:
    """Return the cells in another order, in which neighbours are unlike: a search ends sooner."""
    count = len(cells)
    stride = next((step for step in range(int(count * 0.618) + 1, count) if math.gcd(step, count) == 1), 1)
    return [cells[number * stride % count] for number in range(count)]


def _product(all_values: Mapping[str, Sequence[object]]) -> Iterator[Row]:
    for some in itertools.product(*all_values.values()):
        yield dict(zip(all_values, some, strict=True))
