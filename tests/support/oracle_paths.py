"""Which cells take a path: from the case rows at hand, else by our own replay."""

from collections.abc import Sequence

from support.oracle import rows
from support.oracle_cells import a_few, all_sampled_cells, sampled_cells
from support.oracle_replay import Bench
from support.oracle_words import Row, ours

CELLS_TO_FIND_A_PAIR = 10
TASKS_OF_34 = ("rebooting", "rebooting_hard")
# In these, both versions decide on the vm_state before they look at such a task state.
DECIDED_BEFORE = ("building", "deleted", "soft-delete", "error")


def decided_by_34(row: Row) -> bool:
    """Check whether Nova 34 does something else with such a case, and we with it."""
    return row["task_state"] in TASKS_OF_34 and row["vm_state"] not in DECIDED_BEFORE


class Paths:
    """The outcomes of one table and the cells that lead to each."""

    def __init__(self, table: str) -> None:
        self.table = table
        self.outcomes = {row["id"]: row for row in rows(f"{table}_outcomes")}
        self._cases: dict[str, list[Row]] = {}
        for case in rows(f"{table}_cases"):
            if case["host"] == "own":
                self._cases.setdefault(case["outcome"], []).append(case)
        self._sampled: dict[str, list[Row]] = {}
        self._derived: dict[str, list[Row]] | None = None

    async def cells(self, outcome: str, bench: Bench) -> list[Row]:
        """Return sampled cells with that outcome; none where no row at hand has it and no replay of ours is like it."""
        if outcome not in self._sampled:
            cases = self._cases.get(outcome, ())
            self._sampled[outcome] = [cell for case in cases for cell in sampled_cells(case, self.table)]
        if self._sampled[outcome]:
            return self._sampled[outcome]
        if self._derived is None:
            self._derived = await self._derive(bench)
        return self._derived[outcome]

    async def _derive(self, bench: Bench) -> dict[str, list[Row]]:
        missing = [outcome for name, outcome in self.outcomes.items() if name not in self._cases]
        derived: dict[str, list[Row]] = {outcome["id"]: [] for outcome in missing}
        unlike_others = [outcome for outcome in missing if self._is_unlike_others(outcome)]
        # A look at a few cells tells which pairs of states are worth a look at all of them.
        pairs = set()
        for cell in a_few(all_sampled_cells(self.table), of_each_pair=CELLS_TO_FIND_A_PAIR):
            if not decided_by_34(cell) and await self._takes(cell, unlike_others, bench):
                pairs.add((cell["vm_state"], cell["task_state"]))
        for cell in all_sampled_cells(self.table):
            if (cell["vm_state"], cell["task_state"]) in pairs:
                for outcome in await self._takes(cell, unlike_others, bench):
                    derived[outcome].append(cell)
        return derived

    async def _takes(self, cell: Row, outcomes: Sequence[Row], bench: Bench) -> list[str]:
        """Return those of the outcomes that a replay of ours ends in."""
        replay = await bench.replay(cell, self.table)
        return [o["id"] for o in outcomes if not replay.differences(ours(o["trace"]), o["db"])]

    def _is_unlike_others(self, outcome: Row) -> bool:
        """Check whether no other outcome makes the same calls of ours."""
        calls = ours(outcome["trace"])
        return sum(ours(other["trace"]) == calls for other in self.outcomes.values()) == 1


def starts_with(outcome: Row, tokens: Sequence[str]) -> bool:
    """Check whether the path begins with these tokens."""
    begin: Sequence[str] = outcome["trace"][: len(tokens)]
    return list(begin) == list(tokens)
