"""Every double fault: a failure that Nova goes on from, then a later call fails too.

A row does not say which cases it is about: they are searched for among the sampled cells whose path begins as the row
does.  At least one must end as the row says; and what one pair of exceptions does there, every pair of the row does.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest

from support.oracle import rows, why_missing
from support.oracle_cells import all_sampled_cells, mixed
from support.oracle_outcomes import outcome_differences
from support.oracle_paths import Paths, decided_by_34, starts_with
from support.oracle_replay import Bench, bench
from support.oracle_tally import DECIDED_BY_34, NO_CASE_AT_HAND, Tally
from support.oracle_words import Row, ours, why_out_of_scope

pytestmark = pytest.mark.anyio
RecordProperty = Callable[[str, object], None]

TABLE = "shallow"
ENOUGH = {"asyncio": 6, "trio": 1}
"""So many cells that end as the row says are run with all its exceptions."""
ANYWHERE = 6_000
"""So many cells are searched where none at hand ends as the row says: the rows at hand need not have it."""


def _read(name: str) -> list[Row]:
    if reason := why_missing(name):
        pytest.skip(reason)
    return rows(name)


@dataclass(frozen=True, slots=True)
class DoubleFault:
    """A row, read: Nova's calls, where they fail, and ours."""

    row: Row
    tokens: list[str]
    failing: list[int]
    """Places of the two failing calls in ``tokens``."""

    @property
    def expected(self) -> list[str]:
        """All calls of ours."""
        return ours([*self.tokens, *self.row["then"]])

    @property
    def after(self) -> list[str]:
        """What Nova did after the first failing call."""
        return [*self.tokens[self.failing[0] + 1 :], *self.row["then"]]

    def faults(self, errors: Sequence[str]) -> dict[int, str]:
        """The exceptions by number of our call."""
        numbers = [len(ours(self.tokens[:place])) for place in self.failing]
        return dict(zip(numbers, errors, strict=True))

    def errors(self) -> Iterator[tuple[str, str]]:
        """Every pair of exceptions."""
        return itertools.product(self.row["first_raises"], self.row["second_raises"])


def _parse(row: Row) -> DoubleFault:
    until: list[str] = row["until_second_fault"]
    failing = [place for place, token in enumerate(until) if token.endswith("!")]
    return DoubleFault(row, [token.removesuffix("!") for token in until], failing)


async def _differences(on: Bench, fault: DoubleFault, cell: Row, errors: Sequence[str]) -> list[str]:
    replay = await on.replay(cell, TABLE, faults=fault.faults(errors))
    found = replay.differences(fault.expected, fault.row["db"])
    if not found:
        found = outcome_differences(replay, fault.after, fault.row["escapes"])
    return found


async def _cells(on: Bench, fault: DoubleFault, paths: Paths) -> list[Row]:
    begin = fault.tokens[: fault.failing[0] + 1]
    candidates = [name for name, outcome in paths.outcomes.items() if starts_with(outcome, begin)]
    return [cell for name in candidates for cell in await paths.cells(name, on)]


async def _replay_row(
    on: Bench, fault: DoubleFault, here: Sequence[Row], anywhere: Sequence[Row], enough: int
) -> tuple[int, list[str]]:
    """Return the number of runs and how we differ; ``anywhere`` is searched if none of the cells at hand ends so."""
    pairs = list(fault.errors())
    runs, agreeing = 0, 0
    nearest: list[str] = []
    for place, cell in enumerate([*here, *anywhere]):
        if place >= len(here) and agreeing:
            break
        found = await _differences(on, fault, cell, pairs[0])
        runs += 1
        if found:
            nearest = min((nearest, found), key=len) if nearest else found
            continue
        for errors in pairs[1:]:
            runs += 1
            if other := await _differences(on, fault, cell, errors):
                return runs, ["\n  ".join([f"{fault.row}, {errors} in the cell {cell}", *other])]
        agreeing += 1
        if agreeing == enough:
            break
    return runs, [] if agreeing else ["\n  ".join([f"{fault.row}: no cell ends so; one of the nearest", *nearest])]


async def test_each_double_fault_ends_as_it_does_in_nova(anyio_backend: str, record_property: RecordProperty) -> None:
    faults = [_parse(row) for row in _read("shallow_double_faults")]
    _read("shallow_cases")
    paths = Paths(TABLE)
    anywhere = mixed([cell for cell in all_sampled_cells(TABLE) if not decided_by_34(cell)])[:ANYWHERE]
    tally = Tally("shallow_double_faults.jsonl", faults)
    with bench() as on:
        for fault in faults:
            reasons = [why_out_of_scope(fault.tokens[place]) for place in fault.failing]
            if reason := next((reason for reason in reasons if reason), None):
                tally.out_of_scope(reason)
                continue
            cells = await _cells(on, fault, paths)
            here = mixed([cell for cell in cells if not decided_by_34(cell)])
            if cells and not here:
                tally.out_of_scope(DECIDED_BY_34)
                continue
            runs, problems = await _replay_row(on, fault, here, anywhere, ENOUGH[anyio_backend])
            if problems and not here:
                tally.out_of_scope(NO_CASE_AT_HAND)
                continue
            tally.replayed(runs=runs, problems=problems)
    tally.close(record_property)
