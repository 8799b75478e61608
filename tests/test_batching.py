"""Rounds: what is asked meanwhile shares the next one, and nobody's end is anybody else's."""

import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from bringup.daemon.errors import RecordNotFound, StoreError
from bringup.drivers.batching import ROUND, Gathering, in_thread

pytestmark = pytest.mark.anyio


class Answers(list[int | StoreError]):
    """Answers that tell, in the event loop, when they are read: the round is over, the next not begun."""

    def __init__(self, answers: Iterable[int | StoreError], read: Callable[[], None]) -> None:
        super().__init__(answers)
        self._read = read

    def __iter__(self) -> Iterator[int | StoreError]:
        self._read()
        return super().__iter__()


class Work:
    """Doubles numbers, a round at a time, each round when it is let through; refuses those below zero."""

    def __init__(self) -> None:
        self.rounds: list[list[int]] = []
        self.failure: StoreError | None = None
        self.as_it_ends: Callable[[], None] = lambda: None
        self._gate = threading.Semaphore(0)

    def __call__(self, questions: Sequence[int]) -> list[int | StoreError]:
        self.rounds.append(list(questions))
        assert self._gate.acquire(timeout=60)
        if self.failure is not None:
            raise self.failure
        found = (RecordNotFound(f"no {number}") if number < 0 else 2 * number for number in questions)
        return Answers(found, self.as_it_ends)

    def let_through(self, rounds: int = 1) -> None:
        self._gate.release(rounds)


def gathering_of(work: Work) -> Gathering[int, int]:
    return Gathering(in_thread(work, anyio.CapacityLimiter(1)), failure=StoreError, most=ROUND)


class Asked:
    """Tasks that submit, and the answers that they received."""

    def __init__(self, gathering: Gathering[int, int], tasks: anyio.abc.TaskGroup) -> None:
        self.told: dict[int, int | str] = {}
        self._gathering = gathering
        self._tasks = tasks

    async def _ask(self, number: int, scope: anyio.CancelScope) -> None:
        with scope:
            try:
                self.told[number] = await self._gathering.submit(number)
            except StoreError as error:
                self.told[number] = f"{type(error).__name__}: {error}"

    async def ask(self, *numbers: int) -> list[anyio.CancelScope]:
        """Submit in this order; return when all of them wait."""
        scopes = [anyio.CancelScope() for _ in numbers]
        for number, scope in zip(numbers, scopes, strict=True):
            self._tasks.start_soon(self._ask, number, scope)
            await anyio.wait_all_tasks_blocked()
        return scopes


@asynccontextmanager
async def asking(work: Work) -> AsyncIterator[tuple[Gathering[int, int], Asked]]:
    """Open a gathering whose work is ``work``; exit when every task has its answer."""
    gathering: Gathering[int, int] = Gathering(
        in_thread(work, anyio.CapacityLimiter(1)), failure=StoreError, most=ROUND
    )
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            yield gathering, Asked(gathering, tasks)


async def test_what_is_asked_while_a_round_is_under_way_is_one_round_after_it() -> None:
    work = Work()
    async with asking(work) as (_, asked):
        await asked.ask(1, 2, 3, 4)
        work.let_through(2)

    assert work.rounds == [[1], [2, 3, 4]]
    assert asked.told == {1: 2, 2: 4, 3: 6, 4: 8}


async def test_tasks_that_ask_in_the_same_turn_of_the_event_loop_share_the_first_round() -> None:
    work = Work()
    work.let_through(2)
    gathering: Gathering[int, int] = Gathering(
        in_thread(work, anyio.CapacityLimiter(1)), failure=StoreError, most=ROUND
    )

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(gathering.submit, number)

    assert sorted(number for numbers in work.rounds for number in numbers) == list(range(20))
    assert len(work.rounds) <= 2


async def test_a_round_is_bounded() -> None:
    work = Work()
    async with asking(work) as (gathering, asked):
        await asked.ask(-1)
        async with anyio.create_task_group() as tasks:
            for number in range(ROUND + 3):
                tasks.start_soon(gathering.submit, number)
            await anyio.wait_all_tasks_blocked()
            work.let_through(3)

    assert [len(numbers) for numbers in work.rounds] == [1, ROUND, 3]


async def test_a_refused_question_does_not_hurt_the_others_of_its_round() -> None:
    work = Work()
    async with asking(work) as (_, asked):
        await asked.ask(1, 2, -3)
        work.let_through(2)

    assert asked.told == {1: 2, 2: 4, -3: "RecordNotFound: no -3"}


async def test_a_round_that_fails_fails_all_of_it_and_the_next_one_succeeds() -> None:
    work = Work()
    work.failure = StoreError("the disk is full")
    async with asking(work) as (_, asked):
        await asked.ask(1, 2)
        work.let_through(2)
        with anyio.fail_after(60):
            while len(asked.told) < 2:
                await anyio.lowlevel.checkpoint()
        work.failure = None
        await asked.ask(3)
        work.let_through()

    assert asked.told == {1: "StoreError: the disk is full", 2: "StoreError: the disk is full", 3: 6}


async def test_a_cancelled_caller_before_its_round_takes_the_question_back() -> None:
    work = Work()
    async with asking(work) as (_, asked):
        scopes = await asked.ask(1, 2, 3)
        scopes[1].cancel()
        await anyio.wait_all_tasks_blocked()
        work.let_through(2)

    assert work.rounds == [[1], [3]]
    assert asked.told == {1: 2, 3: 6}


async def test_a_cancelled_caller_while_its_round_is_under_way_waits_for_its_end() -> None:
    work = Work()
    async with asking(work) as (_, asked):
        scopes = await asked.ask(1, 2, 3)
        work.let_through()
        while len(work.rounds) < 2:
            await anyio.lowlevel.checkpoint()
        for scope in scopes:
            scope.cancel()
        await anyio.wait_all_tasks_blocked()
        assert not scopes[2].cancelled_caught
        work.let_through()

    assert work.rounds == [[1], [2, 3]]
    assert 3 not in asked.told
    assert scopes[2].cancelled_caught


async def test_a_leader_that_is_cancelled_does_not_break_its_round_or_the_next() -> None:
    work = Work()
    async with asking(work) as (_, asked):
        first, second, _third = await asked.ask(1, 2, 3)
        first.cancel()
        second.cancel()
        await anyio.wait_all_tasks_blocked()
        work.let_through(2)

    assert work.rounds == [[1], [3]]
    assert asked.told[3] == 6


async def test_a_task_named_leader_in_the_moment_it_is_cancelled_passes_it_on() -> None:
    work = Work()
    async with asking(work) as (_, asked):
        scopes = await asked.ask(1, 2, 3)
        work.as_it_ends = scopes[1].cancel
        work.let_through(2)

    assert work.rounds == [[1], [3]]
    assert asked.told[3] == 6


async def test_a_cancelled_caller_already_asks_nothing() -> None:
    work = Work()
    gathering: Gathering[int, int] = Gathering(
        in_thread(work, anyio.CapacityLimiter(1)), failure=StoreError, most=ROUND
    )

    with anyio.CancelScope() as scope:
        scope.cancel()
        await gathering.submit(1)

    assert scope.cancelled_caught
    assert work.rounds == []


async def test_work_that_breaks_off_leaves_nobody_waiting() -> None:
    def broken(_questions: Sequence[int]) -> list[int | StoreError]:
        raise ZeroDivisionError

    gathering: Gathering[int, int] = Gathering(in_thread(broken, anyio.CapacityLimiter(1)), failure=StoreError)
    told: list[str] = []

    async def ask(number: int) -> None:
        try:
            await gathering.submit(number)
        except (ZeroDivisionError, StoreError) as error:
            told.append(type(error).__name__)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, 1)
            tasks.start_soon(ask, 2)

    assert len(told) == 2
    assert "ZeroDivisionError" in told


async def test_closing_waits_for_what_was_asked_and_takes_no_more() -> None:
    work = Work()
    closed: list[int] = []
    async with asking(work) as (gathering, asked):
        await asked.ask(1, 2)

        async def close() -> None:
            await gathering.close()
            closed.append(len(work.rounds))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(close)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(StoreError, match="closed"):
                await gathering.submit(3)
            assert closed == []
            work.let_through(2)

    assert closed == [2]
    assert asked.told == {1: 2, 2: 4}
