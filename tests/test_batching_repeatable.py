"""Repeatable batches: shared rounds, the item at fault, and tasks whose leader was cancelled."""

from collections.abc import Sequence

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from hypothesis import given
from hypothesis import strategies as st

from bringup.drivers.base import DriverError
from bringup.drivers.batching import Gathering, in_halves
from bringup.drivers.needs import Need, NeedKind, NeedState
from bringup.drivers.network.commands import CommandRefused, CommandUnavailable

pytestmark = pytest.mark.anyio


class Work:
    """Rounds of work that wait until they are released."""

    def __init__(self) -> None:
        self.rounds: list[list[int]] = []
        self.released = anyio.Event()
        self.error: Exception | None = None

    async def __call__(self, items: Sequence[int]) -> Sequence[Exception | None]:
        self.rounds.append(list(items))
        await self.released.wait()
        if self.error is not None:
            raise self.error
        return [ValueError(item) if item < 0 else None for item in items]


def gathering_of(work: Work, *, most: int | None = None) -> Gathering[int, None]:
    return Gathering(work, failure=DriverError, repeatable=True, most=most)


async def test_what_is_asked_for_meanwhile_shares_the_next_round() -> None:
    work = Work()
    gathering = gathering_of(work)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gathering.submit, 0)
        await wait_all_tasks_blocked()
        for number in range(1, 6):
            tasks.start_soon(gathering.submit, number)
        await wait_all_tasks_blocked()
        work.released.set()
    assert [sorted(items) for items in work.rounds] == [[0], [1, 2, 3, 4, 5]]


async def test_a_round_takes_no_more_than_it_may() -> None:
    work = Work()
    work.released.set()
    assert await gathering_of(work, most=2).submit_all(range(5)) == [None] * 5
    assert work.rounds == [[0, 1], [2, 3], [4]]


async def test_a_round_right_after_another_waits_for_more_items() -> None:
    work = Work()
    work.released.set()
    gathering = Gathering(work, failure=DriverError, repeatable=True, pause_s=3600)
    await gathering.submit(0)
    async with anyio.create_task_group() as tasks:
        for number in (1, 2):
            tasks.start_soon(gathering.submit, number)
            await wait_all_tasks_blocked()
        assert work.rounds == [[0]]
        tasks.cancel_scope.cancel()


async def test_after_the_pause_those_who_wait_share_a_round() -> None:
    work = Work()
    work.released.set()
    gathering = Gathering(work, failure=DriverError, repeatable=True, pause_s=0.001)
    for items in ([0], [1, 2]):
        await gathering.submit_all(items)
    assert work.rounds == [[0], [1, 2]]


async def test_each_gets_its_own_failure_alone() -> None:
    work = Work()
    work.released.set()
    first, second, third = await gathering_of(work).submit_all([1, -2, 3])
    assert (first, third) == (None, None)
    assert isinstance(second, ValueError)
    with pytest.raises(ValueError, match="-7"):
        await gathering_of(work).submit(-7)


async def test_a_round_that_fails_as_a_whole_is_the_failure_of_each() -> None:
    work = Work()
    work.released.set()
    work.error = DriverError("no answer")
    first, second = await gathering_of(work).submit_all([1, 2])
    assert str(first) == str(second) == "no answer"
    assert first is not second, "each is raised in a task of its own"


async def test_who_waits_is_served_though_the_leader_was_cancelled() -> None:
    work = Work()
    gathering = gathering_of(work)
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as leaders:
            async with anyio.create_task_group() as leading:
                leading.start_soon(gathering.submit, 0)
                await wait_all_tasks_blocked()
                tasks.start_soon(gathering.submit, 1)
                await wait_all_tasks_blocked()
                leaders.cancel()
        work.released.set()
    assert work.rounds == [[0], [1]]


async def test_who_was_cancelled_in_a_round_is_not_served_when_its_leader_is_cancelled_too() -> None:
    work = Work()
    gathering = gathering_of(work)
    scopes = [anyio.CancelScope() for _ in range(4)]

    async def submit(number: int) -> None:
        with scopes[number]:
            await gathering.submit(number)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(submit, number)
                await wait_all_tasks_blocked()
            scopes[0].cancel()
            await wait_all_tasks_blocked()
            # Now 1 leads 2 and 3; the one that would lead next goes before the leader does.
            scopes[2].cancel()
            await wait_all_tasks_blocked()
            scopes[1].cancel()
            await wait_all_tasks_blocked()
            work.released.set()
    assert work.rounds == [[0], [1, 2, 3], [3]]


async def test_work_that_breaks_off_is_done_again_for_the_others() -> None:
    work = Work()
    work.error = ZeroDivisionError()
    gathering = gathering_of(work)
    raised: list[int] = []

    async def submit(number: int) -> None:
        with pytest.raises(ZeroDivisionError):
            await gathering.submit(number)
        raised.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(submit, number)
            await wait_all_tasks_blocked()
        work.released.set()
    assert work.rounds == [[0], [1, 2], [2]]
    assert raised == [0, 1, 2]


async def test_an_error_with_arguments_of_its_own_is_that_of_each() -> None:
    work = Work()
    work.released.set()
    need = Need(kind=NeedKind.NETWORK, name="nftables", state=NeedState.ABSENT)
    work.error = CommandUnavailable("no answer", [need])
    errors = await gathering_of(work).submit_all([1, 2])
    assert [(type(each), str(each), each.needs) for each in errors if isinstance(each, CommandUnavailable)] == [
        (CommandUnavailable, "no answer", (need,))
    ] * 2


async def test_a_cancelled_caller_while_waiting_takes_the_question_back() -> None:
    work = Work()
    gathering = gathering_of(work)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gathering.submit, 0)
        await wait_all_tasks_blocked()
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as waiting:
                waiting.start_soon(gathering.submit, 1)
                await wait_all_tasks_blocked()
                scope.cancel()
        work.released.set()
    await gathering.submit(2)
    assert work.rounds == [[0], [2]]


@given(st.lists(st.booleans(), max_size=40))
def test_in_halves_all_good_items_are_done_once_and_all_bad_ones_blamed(good: list[bool]) -> None:
    done: list[int] = []

    async def transact(items: Sequence[int]) -> None:
        if not all(good[item] for item in items):
            raise CommandRefused("no")
        done.extend(items)

    async def main() -> list[Exception | None]:
        return await in_halves(range(len(good)), transact, refused=CommandRefused)

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

    errors = await in_halves(range(1000), transact, refused=CommandRefused)
    assert [number for number, error in enumerate(errors) if error] == [700]
    assert calls <= 21


async def test_what_is_unavailable_is_not_tried_in_halves() -> None:
    calls = 0

    async def transact(_items: Sequence[int]) -> None:
        nonlocal calls
        calls += 1
        raise CommandUnavailable("no answer", [])

    with pytest.raises(CommandUnavailable):
        await in_halves(range(8), transact, refused=CommandRefused)
    assert calls == 1
