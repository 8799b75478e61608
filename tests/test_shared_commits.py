"""Outcomes that are awaited and share a commit: of instances that needed nothing, which leave their slots before."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from sqlite3 import connect
from typing import Any

import anyio
import pytest

from bringup.daemon.decisions.outcomes import Kind, Outcome
from bringup.daemon.decisions.rules import Facts
from bringup.daemon.decisions.start_order import StartOrder
from bringup.daemon.decisions.table_order import OWN_TABLES
from bringup.daemon.errors import JournalError
from bringup.daemon.recovery.parallel import AHEAD, settle
from bringup.daemon.storage.journal import Journal, NewRun
from bringup.daemon.storage.journal.sqlite import open_journal
from support.decisions import FACTS
from support.drivers import uuid_of
from support.hosts import HOST, ArrangedHost, arranged, instance, limits, now
from support.polling import reached
from support.seen_events import Seen

pytestmark = pytest.mark.anyio

A, B = uuid_of(1), uuid_of(2)


@dataclass
class HeldJournal(Journal):
    """Journal whose commits wait until the test lets them through."""

    opened: anyio.Event = field(default_factory=anyio.Event)
    problem: JournalError | None = None
    shared: list[str] = field(default_factory=list)
    """Outcomes that share a commit."""
    own: list[str] = field(default_factory=list)
    """Outcomes with a commit of their own."""
    needed: frozenset[str] = frozenset()
    """UUIDs of instances with an entry that had to be on disk before."""

    def may_share(self, uuid: str) -> bool:
        return uuid not in self.needed

    async def settled_with_others(self, outcome: Outcome) -> None:
        self.shared.append(outcome.uuid)
        await self.opened.wait()
        if self.problem is not None:
            raise self.problem

    async def settled(self, outcome: Outcome, *, at_once: bool = True) -> None:
        assert at_once
        self.own.append(outcome.uuid)
        await self.opened.wait()


def held(
    count: int, journal: Journal, seen: Seen, *, concurrency: int = 1, **more: Any
) -> AbstractAsyncContextManager[ArrangedHost]:
    """Arrange instances whose guests run, and would be started if they did not."""
    instances = [instance(number) for number in range(1, count + 1)]
    slots = limits(concurrency=concurrency)
    return arranged(instances, journal=journal, observer=seen.observe, resume_guests=True, limits=slots, **more)


def would_be_started(number: int) -> Facts:
    """Return the facts of such an instance."""
    return replace(FACTS, instance=instance(number), host=HOST, resume_guests=True)


async def comes(is_so: Callable[[], bool], what: str) -> None:
    """Wait until something is so, and until nothing more happens."""

    async def found() -> bool:
        return is_so()

    await reached(found, what)
    await anyio.wait_all_tasks_blocked()


async def test_an_instance_that_needed_nothing_leaves_its_slot_before_its_outcome_is_out() -> None:
    journal, seen = HeldJournal(), Seen()
    async with held(3, journal, seen) as host, anyio.create_task_group() as group:
        group.start_soon(host.run)
        await comes(lambda: len(journal.shared) == 3, "three that wait for their commit")
        ended_before = [*seen.ended]
        journal.opened.set()

    assert (ended_before, journal.own) == ([], [])
    assert sorted(seen.ended) == sorted(seen.began)


async def test_one_of_which_something_had_to_be_on_disk_keeps_its_slot_until_its_outcome_is() -> None:
    journal, seen = HeldJournal(needed=frozenset({A, B})), Seen()
    async with held(2, journal, seen) as host, anyio.create_task_group() as group:
        group.start_soon(host.run)
        await comes(lambda: len(journal.own) == 1, "one that waits for its commit")
        began_before, shared = len(seen.began), [*journal.shared]
        journal.opened.set()

    assert (began_before, shared, len(seen.ended)) == (1, [], 2)


async def test_where_the_journal_cannot_be_written_the_outcomes_come_out() -> None:
    journal, seen = HeldJournal(problem=JournalError("full")), Seen()
    journal.opened.set()
    async with held(2, journal, seen) as host:
        result = await host.run()

    assert (sorted(seen.ended), result.count(Kind.INITIALIZED)) == ([A, B], 2)


async def test_no_more_than_a_bounded_number_wait_without_a_slot() -> None:
    journal, seen, concurrency = HeldJournal(), Seen(), 3
    async with held(AHEAD + 10, journal, seen, concurrency=concurrency) as host, anyio.create_task_group() as group:
        group.start_soon(host.run)
        await comes(lambda: len(seen.began) >= AHEAD + concurrency, "all that may begin")
        began, waiting = len(seen.began), len(journal.shared)
        journal.opened.set()

    assert (began, waiting, len(seen.ended)) == (AHEAD + concurrency, AHEAD, AHEAD + 10)


async def test_who_waits_for_an_instance_begins_after_its_outcome_is_on_disk() -> None:
    journal, seen = HeldJournal(), Seen()
    async with held(2, journal, seen, concurrency=4) as host, anyio.create_task_group() as group:
        await host.driver.init_host(HOST)
        queue = would_be_started(1), would_be_started(2)
        group.start_soon(settle, host.host, StartOrder(queue, after={B: frozenset({A})}), OWN_TABLES, {})
        await comes(lambda: journal.shared == [A], "the first one, which waits")
        began_before = [*seen.began]
        journal.opened.set()

    assert (began_before, seen.began) == ([A], [A, B])


async def test_one_without_its_slot_is_not_counted_among_those_that_hold_one() -> None:
    """Its wait for a slow disk would be taken for that of a guest that slows nobody down."""
    last = uuid_of(3)
    journal, seen = HeldJournal(needed=frozenset({last})), Seen()
    async with held(3, journal, seen, follows=True) as host, anyio.create_task_group() as group:
        boots = host.host.boots
        assert boots is not None
        group.start_soon(host.run)
        await comes(lambda: last in boots.uncounted, "one that is slow in its slot")
        began, uncounted = [*seen.began], boots.uncounted
        journal.opened.set()

    assert (began, uncounted) == ([A, B, last], {last})


async def test_however_few_slots_there_are_many_outcomes_share_a_commit(tmp_path: Path) -> None:
    path, count, seen, statements = tmp_path / "journal.sqlite", 240, Seen(), list[str]()
    with closing(connect(path, isolation_level=None)) as other:
        async with (
            open_journal(path, boot_id=uuid_of(1), keep_runs=5, keep_days=90, now=now) as journal,
            held(count, journal, seen, concurrency=2) as host,
            anyio.create_task_group() as group,
        ):
            journal.database.execute("PRAGMA busy_timeout = 60000")
            await host.driver.init_host(HOST)
            await journal.begin_run(NewRun(run_id=uuid_of(1001), boot_id=uuid_of(1), host=HOST, began_at=now()))
            journal.database.set_trace_callback(statements.append)
            other.execute("BEGIN IMMEDIATE")
            queue = tuple(would_be_started(number) for number in range(1, count + 1))
            group.start_soon(settle, host.host, StartOrder(queue), OWN_TABLES, {})
            await comes(lambda: len(seen.began) == count, "all of them")
            ended_before = [*seen.ended]
            other.execute("ROLLBACK")

        assert (ended_before, len(seen.ended)) == ([], count)
        assert count / statements.count("COMMIT") >= 64
