"""Entries that need not be on disk at once: many of them share a commit, and none waits for long."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from sqlite3 import connect

import anyio
import pytest
from anyio import to_thread

from bringup.daemon.decisions.actions import EnsureFilteringRules, PlugVifs, Reboot
from bringup.daemon.decisions.outcomes import Did, Kind, Outcome, RunResult
from bringup.daemon.decisions.rules import Step
from bringup.daemon.decisions.states import PowerState
from bringup.daemon.storage.journal import InFlight, Journal, Left, NewRun
from bringup.daemon.storage.journal.sqlite import SqliteJournal, open_journal
from bringup.drivers.base import RebootType
from bringup.drivers.simulated import SimulatedGuest
from support.drivers import uuid_of
from support.hosts import HOST, arranged, instance
from support.polling import reached

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
VIFS, RULES = Step("vifs", PlugVifs()), Step("runs", EnsureFilteringRules())
REBOOT = Step("hard_reboot_interrupted", Reboot(RebootType.HARD))
A, B = uuid_of(1), uuid_of(2)
RUN = NewRun(run_id=uuid_of(1001), boot_id=uuid_of(1), host=HOST, began_at=NOON)


@asynccontextmanager
async def running(path: Path) -> AsyncIterator[SqliteJournal]:
    async with open_journal(path, boot_id=RUN.boot_id, keep_runs=5, keep_days=90, now=lambda: NOON) as journal:
        await journal.begin_run(RUN)
        yield journal


async def finds_in_place(journal: SqliteJournal, uuid: str) -> Outcome:
    """Settle an instance that needs nothing."""
    for step in (VIFS, RULES):
        await journal.began(uuid, step, ("vifs",), at_once=False)
        journal.ended(uuid, step, None)
    outcome = Outcome(uuid=uuid, kind=Kind.INITIALIZED, because=("vifs", "runs"), took_s=1, did=Did.LEFT_RUNNING)
    await journal.settled(outcome, at_once=False)
    return outcome


def on_disk(path: Path) -> dict[str, list[tuple[str, bool]]]:
    """Return the instances that are settled there, with their verbs and whether the end of each is there."""
    with closing(connect(path)) as database:
        uuids = [uuid for (uuid,) in database.execute("SELECT uuid FROM instances WHERE kind IS NOT NULL")]
        verbs = "SELECT verb, ended_at IS NOT NULL FROM actions WHERE uuid = ? ORDER BY number"
        return {uuid: [(verb, bool(ended)) for verb, ended in database.execute(verbs, (uuid,))] for uuid in uuids}


WHOLE = [("plug_vifs", True), ("ensure_filtering_rules_for_instance", True)]


async def test_what_need_not_be_written_at_once_shares_commits(tmp_path: Path) -> None:
    path, statements = tmp_path / "journal.sqlite", list[str]()
    async with running(path) as journal:
        journal.database.set_trace_callback(statements.append)
        for number in range(640):
            await finds_in_place(journal, uuid_of(number))
        commits = statements.count("COMMIT")
        found = on_disk(path)

    assert 0 < commits <= 10
    assert len(found) >= 500
    assert all(verbs == WHOLE for verbs in found.values())


async def test_a_commit_takes_along_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    async with running(path) as journal:
        await finds_in_place(journal, A)
        before = on_disk(path)
        await journal.began(B, REBOOT, ())

        assert (before, on_disk(path)) == ({}, {A: WHOLE})


async def test_what_waits_is_written_within_a_bounded_time(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    async with running(path) as journal, anyio.create_task_group() as group:
        group.start_soon(journal.write_in_time)
        await finds_in_place(journal, A)
        await reached(partial(to_thread.run_sync, on_disk, path), "the outcome on disk")
        group.cancel_scope.cancel()

    assert on_disk(path) == {A: WHOLE}


async def test_the_end_of_a_run_writes_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    async with running(path) as journal:
        outcome = await finds_in_place(journal, A)
        result = RunResult(
            run_id=RUN.run_id, boot_id=RUN.boot_id, host=HOST, outcomes=(outcome,), unfinished=(), took_s=1
        )
        await journal.end_run(result, delivery=None)

        assert on_disk(path) == {A: WHOLE}


async def test_after_a_kill_what_waited_is_decided_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    async with running(path) as journal:
        await finds_in_place(journal, A)
    async with open_journal(path, boot_id=RUN.boot_id, keep_runs=5, keep_days=90, now=lambda: NOON) as journal:
        past = await journal.begin_run(RUN)

    assert (past.attempt, past.settled, past.in_flight) == (2, {}, {})


async def test_the_outcome_of_an_instance_with_an_action_on_disk_does_not_wait(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    async with running(path) as journal:
        await journal.began(A, VIFS, ("vifs",), at_once=False)
        journal.ended(A, VIFS, None)
        await journal.began(A, REBOOT, ("vifs",))
        journal.ended(A, REBOOT, None)
        await journal.settled(Outcome(uuid=A, kind=Kind.INITIALIZED, because=("vifs",), took_s=1), at_once=False)

        assert on_disk(path) == {A: [("plug_vifs", True), ("reboot", True)]}


async def test_an_instance_that_is_worked_on_again_is_in_flight(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    async with running(path) as journal:
        await finds_in_place(journal, A)
        await journal.began(A, VIFS, ("vifs",), at_once=False)
    async with open_journal(path, boot_id=RUN.boot_id, keep_runs=5, keep_days=90, now=lambda: NOON) as journal:
        past = await journal.begin_run(RUN)

    done = ("plug_vifs", "ensure_filtering_rules_for_instance")
    assert past.in_flight == {A: InFlight(because=("vifs",), begun=("plug_vifs",), done=done)}


class Noted(Journal):
    """Journal that remembers what must be on disk before it is done."""

    def __init__(self) -> None:
        self.at_once: dict[str, list[str]] = {A: [], B: []}
        self.waiting: dict[str, list[str]] = {A: [], B: []}

    async def began(
        self, uuid: str, step: Step, because: Sequence[str], *, was: Left | None = None, at_once: bool = True
    ) -> None:
        del because, was
        (self.at_once if at_once else self.waiting)[uuid].append(step.action.verb)


async def test_only_what_is_in_place_where_the_guest_runs_may_wait() -> None:
    noted, guests = (
        Noted(),
        [
            SimulatedGuest(uuid=A, power_state=PowerState.RUNNING),
            SimulatedGuest(uuid=B, power_state=PowerState.SHUTDOWN),
        ],
    )
    async with arranged([instance(1), instance(2)], guests=guests, journal=noted, resume_guests=True) as host:
        await host.run()

    assert noted.waiting == {A: ["plug_vifs", "ensure_filtering_rules_for_instance"], B: []}
    assert noted.at_once == {A: [], B: ["plug_vifs", "resume_state_on_host_boot"]}
