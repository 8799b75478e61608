"""Entries that need not be on disk at once: many of them share a commit, and none waits for long."""

import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import product
from pathlib import Path
from sqlite3 import connect

import pytest
from anyio import to_thread

from bringup.daemon.decisions.actions import Action, EnsureFilteringRules, PlugVifs, Reboot
from bringup.daemon.decisions.from_needs import can_start
from bringup.daemon.decisions.outcomes import Did, Kind, Outcome, RunResult
from bringup.daemon.decisions.policies import Guests, ResumePolicy
from bringup.daemon.decisions.resume_policy import Resuming
from bringup.daemon.decisions.rules import Facts, Step, Withheld, decide, with_look
from bringup.daemon.decisions.run_events import InstanceEnded, RunEvent
from bringup.daemon.decisions.start_order import StartOrder
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.decisions.table_order import OWN_TABLES
from bringup.daemon.errors import JournalError
from bringup.daemon.recovery.init_instance import IN_PLACE
from bringup.daemon.recovery.parallel import settle
from bringup.daemon.storage.journal import InFlight, Journal, Left, NewRun
from bringup.daemon.storage.journal.sqlite import SqliteJournal, open_journal
from bringup.drivers.base import RebootType
from support.decisions import FACTS, facts
from support.drivers import uuid_of
from support.hosts import HOST, arranged, guest, instance
from support.polling import reached

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
VIFS, RULES = Step("vifs", PlugVifs()), Step("runs", EnsureFilteringRules())
REBOOT = Step("hard_reboot_interrupted", Reboot(RebootType.HARD))
A, B = uuid_of(1), uuid_of(2)
RUN = NewRun(run_id=uuid_of(1001), boot_id=uuid_of(1), host=HOST, began_at=NOON)


def opened(path: Path, *, boot_id: str = RUN.boot_id) -> AbstractAsyncContextManager[SqliteJournal]:
    return open_journal(path, boot_id=boot_id, keep_runs=5, keep_days=90, now=lambda: NOON)


@asynccontextmanager
async def running(path: Path) -> AsyncIterator[SqliteJournal]:
    """Start a run, of which entries may wait; it is never ended."""
    async with opened(path) as journal:
        await journal.begin_run(RUN)
        async with journal.sharing_commits():
            yield journal


def copy_of(path: Path, name: str) -> Path:
    """Copy what a killed daemon leaves of its journal."""
    copy = path.parent / name / path.name
    copy.parent.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    return copy


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


def result_of(outcome: Outcome) -> RunResult:
    return RunResult(run_id=RUN.run_id, boot_id=RUN.boot_id, host=HOST, outcomes=(outcome,), unfinished=(), took_s=1)


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
    async with running(path) as journal:
        await finds_in_place(journal, A)
        await reached(partial(to_thread.run_sync, on_disk, path), "the outcome on disk")

        assert on_disk(path) == {A: WHOLE}


async def test_nothing_waits_after_the_instances_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    async with opened(path) as journal:
        await journal.begin_run(RUN)
        async with journal.sharing_commits():
            await finds_in_place(journal, A)
            before = on_disk(path)
        after = on_disk(path)
        await finds_in_place(journal, B)

        assert (before, after, on_disk(path)) == ({}, {A: WHOLE}, {A: WHOLE, B: WHOLE})


@pytest.mark.parametrize("boot_id", [RUN.boot_id, uuid_of(2)], ids=["this boot", "another boot"])
async def test_nothing_waits_in_a_run_after_one_that_was_cut_short(tmp_path: Path, boot_id: str) -> None:
    path = tmp_path / "journal.sqlite"
    async with running(path):
        pass
    async with opened(path, boot_id=boot_id) as journal:
        await journal.begin_run(replace(RUN, run_id=uuid_of(1002), boot_id=boot_id))
        async with journal.sharing_commits():
            await finds_in_place(journal, A)

            assert on_disk(path) == {A: WHOLE}


async def test_what_waited_and_could_not_be_written_is_written_with_the_end_of_the_run(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    async with running(path) as journal:
        outcome = await finds_in_place(journal, A)
        journal.database.execute("PRAGMA busy_timeout = 0")
        with closing(connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(JournalError, match="locked"):
                await journal.began(B, REBOOT, ())
            other.execute("ROLLBACK")
        await journal.began(B, REBOOT, ())
        before = on_disk(path)
        await journal.end_run(result_of(outcome), delivery=None)

        assert (before, on_disk(path)) == ({}, {A: []})


async def test_the_end_of_a_run_writes_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    async with running(path) as journal:
        outcome = await finds_in_place(journal, A)
        await journal.end_run(result_of(outcome), delivery=None)

        assert on_disk(path) == {A: WHOLE}


async def test_after_a_kill_what_waited_is_decided_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    async with running(path) as journal:
        await finds_in_place(journal, A)
        left = copy_of(path, "killed")
    async with opened(left) as journal:
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
        left = copy_of(path, "killed")
    async with opened(left) as journal:
        past = await journal.begin_run(RUN)

    done = ("plug_vifs", "ensure_filtering_rules_for_instance")
    assert past.in_flight == {A: InFlight(because=("vifs",), begun=("plug_vifs",), done=done)}


class Noted(Journal):
    """Journal that remembers what must be on disk before the caller continues."""

    def __init__(self) -> None:
        self.at_once: dict[str, list[str]] = {A: [], B: []}
        self.waiting: dict[str, list[str]] = {A: [], B: []}

    async def began(
        self, uuid: str, step: Step, because: Sequence[str], *, was: Left | None = None, at_once: bool = True
    ) -> None:
        del because, was
        (self.at_once if at_once else self.waiting)[uuid].append(step.action.verb)

    async def settled(self, outcome: Outcome, *, at_once: bool = True) -> None:
        (self.at_once if at_once else self.waiting)[outcome.uuid].append(outcome.kind.value)


async def test_only_what_is_in_place_where_the_guest_runs_may_wait() -> None:
    noted, guests = Noted(), [guest(1), guest(2, PowerState.SHUTDOWN)]
    async with arranged([instance(1), instance(2)], guests=guests, journal=noted, resume_guests=True) as host:
        await host.run()

    assert noted.waiting == {A: ["plug_vifs", "ensure_filtering_rules_for_instance"], B: []}
    assert noted.at_once == {A: ["initialized"], B: ["plug_vifs", "resume_state_on_host_boot", "initialized"]}


@pytest.mark.parametrize(
    ("facts", "may_wait"),
    [
        (FACTS, True),
        (replace(FACTS, withheld=Withheld.ONCE_A_BOOT), True),
        (replace(FACTS, resume_guests=True), False),
        *((replace(FACTS, withheld=each), False) for each in Withheld if each is not Withheld.ONCE_A_BOOT),
    ],
)
async def test_an_outcome_waits_only_where_the_guest_would_not_be_brought_back(facts: Facts, *, may_wait: bool) -> None:
    noted = Noted()
    async with arranged([instance(1)], journal=noted) as host:
        await host.driver.init_host(HOST)
        await settle(host.host, StartOrder((replace(facts, instance=instance(1), host=HOST),)), OWN_TABLES, {})

    assert ("initialized" in noted.waiting[A], "initialized" in noted.at_once[A]) == (may_wait, not may_wait)


def every_running_guest() -> Iterator[Facts]:
    """Return every record whose guest runs, with nothing to do but what is in place."""
    for vm, task, old in product(VmState, (None, *TaskState), (None, "stopped", "active")):
        system_metadata = {} if old is None else {"old_vm_state": old}
        record = replace(facts(vm, task).instance, power_state=PowerState.RUNNING, system_metadata=system_metadata)
        for withheld in (None, Withheld.ONCE_A_BOOT):
            case = replace(FACTS, instance=record, withheld=withheld)
            if all(isinstance(action, IN_PLACE) for action in everything_done(case, PowerState.RUNNING)):
                yield case


def everything_done(facts: Facts, look: PowerState) -> Iterator[Action]:
    """Return the actions that the tables give for a guest whose power state stays as it is."""
    for table in OWN_TABLES:
        if table is None:
            facts = with_look(facts, look)
            continue
        plan = decide(table, facts)
        yield from (step.action for step in plan.steps)
        if plan.ends:
            return


def test_a_guest_whose_outcome_was_lost_is_not_started_whatever_it_is_found_as() -> None:
    cases = [(case, look) for case in every_running_guest() for look in PowerState]
    started = [
        (case, look) for case, look in cases for action in everything_done(case, look) if can_start(action, look)
    ]

    assert started == []
    assert len(cases) >= 100


@pytest.mark.parametrize("guests", ["never", "on_host_boot", "on_every_start"])
async def test_a_guest_that_is_stopped_after_its_outcome_stays_off_after_a_kill(tmp_path: Path, guests: Guests) -> None:
    path, copies = tmp_path / "journal.sqlite", list[Path]()
    policy = ResumePolicy(guests=guests)

    def kill(event: RunEvent) -> None:
        if isinstance(event, InstanceEnded):
            copies.append(copy_of(path, "killed"))

    async with (
        opened(path) as journal,
        arranged([instance(1)], journal=journal, observer=kill, resuming=Resuming(policy)) as host,
    ):
        await host.run()
    [left] = copies
    async with (
        opened(left) as journal,
        arranged(
            [instance(1)], guests=[guest(1, PowerState.SHUTDOWN)], journal=journal, resuming=Resuming(policy)
        ) as host,
    ):
        await host.run()

        assert host.power(1) is PowerState.SHUTDOWN
