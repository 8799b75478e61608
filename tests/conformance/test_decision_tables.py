"""Every case of the decision table (actions recorded) and of the deep table (actions real)."""

from collections.abc import Callable

import pytest

from bringup.daemon.decisions.outcomes import Kind
from support.oracle import rows, why_missing
from support.oracle_cells import cells_of
from support.oracle_paths import decided_by_34
from support.oracle_replay import Bench, Replay, bench
from support.oracle_tally import DECIDED_BY_34, Tally
from support.oracle_words import NOT_IN_34, Row, ours

pytestmark = pytest.mark.anyio
RecordProperty = Callable[[str, object], None]

ON_TRIO = 1
"""So many cells of each row are run on the other backend."""


def _read(name: str) -> list[Row]:
    if reason := why_missing(name):
        pytest.skip(reason)
    return rows(name)


def _differences(replay: Replay, outcome: Row) -> list[str]:
    kind = Kind.INITIALIZED if replay.calls else Kind.SKIPPED
    found = replay.differences(ours(outcome["trace"]), outcome["db"])
    # What is only told, such as a task state that nobody finishes, changes nothing of what is done.
    warnings = [one for one in replay.outcome.warnings if one.action != "decide"]
    if (replay.outcome.kind, replay.outcome.problem, warnings) != (kind, None, []):
        found.append(f"outcome: expected {kind} without a word, had {replay.outcome}")
    return found


async def _replay_row(on: Bench, case: Row, outcome: Row, table: str, cells: int | None) -> tuple[int, list[str]]:
    problems = []
    runs = 0
    for cell in list(cells_of(case, table))[:cells]:
        replay = await on.replay(cell, table)
        runs += 1
        if found := _differences(replay, outcome):
            problems.append("\n  ".join([f"{case} in the cell {cell}", *found]))
    return runs, problems


@pytest.mark.parametrize("table", ["shallow", "deep"])
async def test_each_case_ends_as_it_does_in_nova(
    table: str, anyio_backend: str, record_property: RecordProperty
) -> None:
    cases = _read(f"{table}_cases")
    outcomes = {row["id"]: row for row in _read(f"{table}_outcomes")}
    tally = Tally(f"{table}_cases.jsonl", cases)
    with bench() as on:
        for case in cases:
            if decided_by_34(case):
                tally.out_of_scope(DECIDED_BY_34)
                continue
            cells = ON_TRIO if anyio_backend == "trio" else None
            runs, problems = await _replay_row(on, case, outcomes[case["outcome"]], table, cells)
            tally.replayed(runs=runs, problems=problems)
    tally.close(record_property)


async def test_each_case_that_nova_34_decides_otherwise_ends_as_it_does_there(
    anyio_backend: str, record_property: RecordProperty
) -> None:
    cases = _read("nova34/shallow_cases")
    outcomes = {row["id"]: row for row in _read("nova34/shallow_outcomes")}
    tally = Tally("nova34/shallow_cases.jsonl", cases)
    with bench() as on:
        for case in cases:
            outcome = outcomes[case["outcome"]]
            cells = list(cells_of(case, "shallow"))
            problems = []
            for cell in cells[: ON_TRIO if anyio_backend == "trio" else None]:
                replay = await on.replay(cell, "shallow", live_migration=case["task_state"] == "migrating")
                replay.calls[:] = [words for words in replay.calls if words[0] not in NOT_IN_34]
                if found := replay.differences(ours(outcome["trace"]), outcome["db"]):
                    problems.append("\n  ".join([f"{case} in the cell {cell}", *found]))
            tally.replayed(runs=len(cells), problems=problems)
    tally.close(record_property)
