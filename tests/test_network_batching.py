"""Many who ask at once: who shares a round, who is to blame, and what becomes of those whose leader was cancelled."""

from collections.abc import Sequence

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from hypothesis import given
from hypothesis import strategies as st

from bringup.drivers.base import DriverError
from bringup.drivers.network.batching import Gathering, in_halves
from bringup.drivers.network.commands import CommandRefused, CommandUnavailable

pytestmark = pytest.mark.anyio


class Work:
    """Rounds of work that wait until they are let go."""

    def __init__(self) -> None:
        self.rounds: list[list[int]] = []
        self.go_on = anyio.Event()
        self.error: DriverError | None = None

    async def __call__(self, items: Sequence[int]) -> Sequence[Exception | None]:
        self.rounds.append(list(items))
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        return [ValueError(item) if item < 0 else None for item in items]


async def test_what_is_asked_for_meanwhile_shares_the_next_round() -> None:
    work = Work()
    gathering = Gathering(work)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gathering.do, 0)
        await wait_all_tasks_blocked()
        for number in range(1, 6):
            tasks.start_soon(gathering.do, number)
        await wait_all_tasks_blocked()
        work.go_on.set()
    assert [sorted(items) for items in work.rounds] == [[0], [1, 2, 3, 4, 5]]


async def test_a_round_takes_no_more_than_it_may() -> None:
    work = Work()
    work.go_on.set()
    assert await Gathering(work, most=2).do_all(range(5)) == [None] * 5
    assert work.rounds == [[0, 1], [2, 3], [4]]


async def test_each_is_told_of_its_own_failure_alone() -> None:
    work = Work()
    work.go_on.set()
    first, second, third = await Gathering(work).do_all([1, -2, 3])
    assert (first, third) == (None, None)
    assert isinstance(second, ValueError)
    with pytest.raises(ValueError, match="-7"):
        await Gathering(work).do(-7)


async def test_a_round_that_fails_as_a_whole_is_the_failure_of_each() -> None:
    work = Work()
    work.go_on.set()
    work.error = DriverError("no answer")
    first, second = await Gathering(work).do_all([1, 2])
    assert str(first) == str(second) == "no answer"
    assert first is not second, "each is raised in a task of its own"


async def test_who_waits_is_served_though_the_leader_was_cancelled() -> None:
    work = Work()
    gathering = Gathering(work)
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as leaders:
            async with anyio.create_task_group() as leading:
                leading.start_soon(gathering.do, 0)
                await wait_all_tasks_blocked()
                tasks.start_soon(gathering.do, 1)
                await wait_all_tasks_blocked()
                leaders.cancel()
        work.go_on.set()
    assert work.rounds == [[0], [1]]


async def test_who_is_cancelled_while_waiting_takes_the_question_back() -> None:
    work = Work()
    gathering = Gathering(work)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gathering.do, 0)
        await wait_all_tasks_blocked()
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as waiting:
                waiting.start_soon(gathering.do, 1)
                await wait_all_tasks_blocked()
                scope.cancel()
        work.go_on.set()
    await gathering.do(2)
    assert work.rounds == [[0], [2]]


@given(st.lists(st.booleans(), max_size=40))
def test_in_halves_all_good_items_are_done_once_and_all_bad_ones_blamed(good: list[bool]) -> None:
    done: list[int] = []

    async def transact(items: Sequence[int]) -> None:
        if not all(good[item] for item in items):
            raise CommandRefused("no")
        done.extend(items)

    async def main() -> list[Exception | None]:
        return await in_halves(range(len(good)), transact)

    errors = anyio.run(main)
    assert [error is None for error in errors] == good
    assert sorted(done) == [item for item, right in enumerate(good) if right]


async def test_in_halves_one_bad_item_of_many_costs_few_transactions() -> None:
    calls = 0

    async def transact(items: Sequence[int]) -> None:
        nonlocal calls
        calls += 1
        if 700 in items:
            raise CommandRefused("no")

    errors = await in_halves(range(1000), transact)
    assert [number for number, error in enumerate(errors) if error] == [700]
    assert calls <= 21


async def test_what_is_unavailable_is_not_tried_in_halves() -> None:
    calls = 0

    async def transact(_items: Sequence[int]) -> None:
        nonlocal calls
        calls += 1
        raise CommandUnavailable("no answer", [])

    with pytest.raises(CommandUnavailable):
        await in_halves(range(8), transact)
    assert calls == 1
