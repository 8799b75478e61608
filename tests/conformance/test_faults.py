"""Every fault row: one call of a path raises, before it has any effect."""

from collections.abc import Callable, Sequence

import pytest

from support.oracle import rows, why_missing
from support.oracle_cells import a_few, matches
from support.oracle_outcomes import outcome_differences
from support.oracle_paths import Paths, decided_by_34
from support.oracle_replay import Bench, bench
from support.oracle_tally import DECIDED_BY_34, NO_CASE_AT_HAND, Tally
from support.oracle_words import Row, fault_of, ours, why_out_of_scope

pytestmark = pytest.mark.anyio
RecordProperty = Callable[[str, object], None]

CELLS_A_PAIR = {"asyncio": 2, "trio": 1}
"""So many cells of each pair of states are run."""
CELLS_A_ROW = {"asyncio": 60, "trio": 1}
"""So many are run where the pairs are few."""
CELLS_AT_MOST = {"asyncio": None, "trio": 1}


def _read(name: str) -> list[Row]:
    if reason := why_missing(name):
        pytest.skip(reason)
    return rows(name)


async def _problems(on: Bench, fault: Row, paths: Paths, result: Row, cells: Sequence[Row]) -> tuple[int, list[str]]:
    _, number, until = fault_of(fault, paths.outcomes[fault["path"]]["trace"])
    expected = ours([*until, *result["then"]])
    problems = []
    runs = 0
    for cell in cells:
        for error in fault["raises"]:
            replay = await on.replay(cell, paths.table, faults={number: error})
            runs += 1
            found = replay.differences(expected, result["db"])
            found += outcome_differences(replay, result["then"], fault["escapes"])
            if found:
                problems.append("\n  ".join([f"{fault}, {error} in the cell {cell}", *found]))
    return runs, problems


@pytest.mark.parametrize("table", ["shallow", "deep"])
async def test_each_fault_ends_as_it_does_in_nova(
    table: str, anyio_backend: str, record_property: RecordProperty
) -> None:
    faults = _read(f"{table}_faults")
    results = {row["id"]: row for row in _read(f"{table}_fault_results")}
    _read(f"{table}_cases")
    paths = Paths(table)
    tally = Tally(f"{table}_faults.jsonl", faults)
    with bench() as on:
        for fault in faults:
            token, _, _ = fault_of(fault, paths.outcomes[fault["path"]]["trace"])
            if reason := why_out_of_scope(token):
                tally.out_of_scope(reason)
                continue
            cells = [cell for cell in await paths.cells(fault["path"], on) if matches(cell, fault.get("when"))]
            here = [cell for cell in cells if not decided_by_34(cell)]
            if not here:
                tally.out_of_scope(DECIDED_BY_34 if cells else NO_CASE_AT_HAND)
                continue
            few = a_few(here, of_each_pair=CELLS_A_PAIR[anyio_backend], at_least=CELLS_A_ROW[anyio_backend])
            few = few[: CELLS_AT_MOST[anyio_backend]]
            runs, problems = await _problems(on, fault, paths, results[fault["result"]], few)
            tally.replayed(runs=runs, problems=problems)
    tally.close(record_property)
