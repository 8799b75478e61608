"""What was done and is being done, on disk before it is done."""

import json
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from bringup.daemon.decisions.actions import DestroyEvacuated, PlugVifs, Reboot, ResumeStateOnHostBoot, Save
from bringup.daemon.decisions.outcomes import Did, Kind, Outcome, Problem, RunResult
from bringup.daemon.decisions.rules import Step
from bringup.daemon.decisions.states import VmState
from bringup.daemon.errors import JournalError, Refused
from bringup.daemon.storage.journal import InFlight, KeptDisks, Left, NewRun, Past
from bringup.daemon.storage.journal.history import read
from bringup.daemon.storage.journal.sqlite import SqliteJournal, open_journal
from bringup.drivers.base import RebootType
from support.drivers import uuid_of
from support.hosts import HOST, instance

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
VIFS = Step("vifs", PlugVifs())
REBOOT = Step("hard_reboot_interrupted", Reboot(RebootType.HARD))
RESUME = Step("ran_before", ResumeStateOnHostBoot())
DESTROY = Step("evacuated", DestroyEvacuated())
A, B = uuid_of(1), uuid_of(2)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = NOON

    def __call__(self) -> datetime:
        return self.at

    def advance(self, **time: float) -> None:
        self.at += timedelta(**time)


class Host:
    """A host whose daemon is begun and killed."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "journal.sqlite"
        self.clock = Clock()
        self.boot = 1
        self.runs = 0
        self.keep_runs = 50

    @asynccontextmanager
    async def journal(self) -> AsyncIterator[SqliteJournal]:
        async with open_journal(
            self.path, boot_id=uuid_of(self.boot), keep_runs=self.keep_runs, keep_days=90, now=self.clock
        ) as journal:
            yield journal

    async def begin_run(self, journal: SqliteJournal) -> Past:
        self.runs += 1
        run = NewRun(run_id=uuid_of(1000 + self.runs), boot_id=uuid_of(self.boot), host=HOST, began_at=self.clock())
        return await journal.begin_run(run)

    async def past(self) -> Past:
        """Start a run, and kill the daemon at once."""
        async with self.journal() as journal:
            return await self.begin_run(journal)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def outcome(uuid: str = A, kind: Kind = Kind.INITIALIZED, *, deleted: bool = False) -> Outcome:
    return Outcome(
        uuid=uuid,
        kind=kind,
        because=("vifs", "runs"),
        took_s=1.5,
        problem=Problem("plug_vifs", "Error", "no port"),
        warnings=(Problem("save", "StoreError", "later"),),
        slowest=("plug_vifs", 1.25),
        instance=None if deleted else instance(1),
        deleted=deleted,
    )


def result(*outcomes: Outcome, unfinished: Sequence[str] = (), run: int = 1001) -> RunResult:
    return RunResult(
        run_id=uuid_of(run),
        boot_id=uuid_of(1),
        host=HOST,
        outcomes=outcomes,
        unfinished=tuple(unfinished),
        took_s=3.0,
    )


async def dies_in(host: Host, *steps: Step, uuid: str = A) -> Past:
    """Run, and have the host die in the middle of the last of these steps."""
    async with host.journal() as journal:
        past = await host.begin_run(journal)
        for step in steps:
            await journal.began(uuid, step, ("vifs",))
    host.boot += 1
    host.clock.advance(minutes=5)
    return past


async def test_the_first_run_has_an_empty_past(host: Host) -> None:
    assert await host.past() == Past(run_id=uuid_of(1001))
    assert stat.S_IMODE(host.path.stat().st_mode) == 0o600


async def test_a_run_that_was_killed_continues_with_what_it_had_settled(host: Host) -> None:
    async with host.journal() as journal:
        await host.begin_run(journal)
        await journal.began(A, VIFS, ("vifs",))
        journal.ended(A, VIFS, None)
        await journal.settled(outcome())
        await journal.began(B, VIFS, ("vifs",))
        journal.ended(B, VIFS, None)
        await journal.began(B, REBOOT, ("vifs", "hard_reboot_interrupted"))

    past = await host.past()

    assert (past.run_id, past.attempt, past.boot_settled) == (uuid_of(1001), 2, False)
    assert past.settled[A].left == Left(host=HOST, vm_state="active", task_state=None)
    written = outcome()
    assert past.settled[A].outcome == Outcome(
        uuid=A,
        kind=written.kind,
        because=written.because,
        took_s=written.took_s,
        problem=written.problem,
        warnings=written.warnings,
        slowest=written.slowest,
    )
    assert past.in_flight == {
        B: InFlight(because=("vifs", "hard_reboot_interrupted"), begun=("reboot",), done=("plug_vifs",))
    }


async def test_in_an_outcome_of_another_version_what_was_done_is_unknown(host: Host) -> None:
    async with host.journal() as journal:
        await host.begin_run(journal)
        await journal.settled(replace(outcome(A), did=Did.STARTED))
        await journal.settled(replace(outcome(B), did=Did.STARTED))
    assert {uuid: one.outcome.did for uuid, one in (await host.past()).settled.items()} == {
        A: Did.STARTED,
        B: Did.STARTED,
    }
    with closing(sqlite3.connect(host.path, isolation_level=None)) as database:
        database.execute("UPDATE instances SET outcome = json_remove(outcome, '$.did') WHERE uuid = ?", (A,))
        database.execute("UPDATE instances SET outcome = json_set(outcome, '$.did', 'sung_to') WHERE uuid = ?", (B,))

    past = await host.past()

    assert {uuid: one.outcome.did for uuid, one in past.settled.items()} == {A: Did.UNKNOWN, B: Did.UNKNOWN}
    with read(host.path) as history:
        assert history is not None
        assert [row["did"] for row in history.instances_of(past.run_id)] == [None, "sung_to"]


async def test_an_action_that_failed_is_neither_done_nor_in_flight(host: Host) -> None:
    async with host.journal() as journal:
        await host.begin_run(journal)
        await journal.began(A, REBOOT, ())
        journal.ended(A, REBOOT, RuntimeError("no"))
        await journal.began(A, Step("x", Save({"task_state": None})), ())

    past = await host.past()
    assert past.in_flight == {A: InFlight(begun=("save",))}


async def test_an_action_whose_end_is_not_on_disk_counts_as_in_flight(host: Host) -> None:
    async with host.journal() as journal:
        await host.begin_run(journal)
        await journal.began(A, REBOOT, ())
        journal.ended(A, REBOOT, None)

    assert (await host.past()).in_flight == {A: InFlight(begun=("reboot",))}


@pytest.mark.parametrize("kind", [Kind.HELD, Kind.DEFERRED])
async def test_a_held_or_deferred_instance_is_not_settled(host: Host, kind: Kind) -> None:
    async with host.journal() as journal:
        await host.begin_run(journal)
        await journal.settled(outcome(kind=kind))
    past = await host.past()
    assert (past.settled, past.in_flight) == ({}, {})


@pytest.mark.parametrize(
    ("kind", "action", "runs", "waits"),
    [
        (Kind.HELD, "decide", False, True),
        (Kind.FAILED, "resume_state_on_host_boot", False, True),
        (Kind.FAILED, "resume_state_on_host_boot", True, True),
        # However it failed: the record could not be written, the guest not be checked, the time was up.
        (Kind.FAILED, "plug_vifs", False, True),
        (Kind.FAILED, "set_error", False, True),
        (Kind.FAILED, "get_info", False, True),
        (Kind.FAILED, "decide", False, True),
        (Kind.FAILED, "ensure_filtering_rules_for_instance", True, False),
        (Kind.SUPERSEDED, "resume_state_on_host_boot", False, True),
        (Kind.SUPERSEDED, "save", False, True),
        (Kind.SUPERSEDED, "save", True, False),
        (Kind.DEFERRED, "needs", False, True),
        (Kind.DEFERRED, "plug_vifs", False, True),
        (Kind.DEFERRED, "needs", True, False),
        (Kind.INITIALIZED, "resume_state_on_host_boot", False, False),
    ],
)
async def test_a_held_or_failed_instance_may_still_be_brought_back_on_this_boot(
    host: Host, kind: Kind, action: str, *, runs: bool, waits: bool
) -> None:
    async with host.journal() as journal:
        await host.begin_run(journal)
        await journal.settled(replace(outcome(kind=kind), problem=Problem(action, "Error", "no"), runs=runs))
        await journal.end_run(result(), delivery=None)
    assert (await host.past()).held == ({A} if waits else frozenset())


@pytest.mark.parametrize(
    ("before", "rule", "waits"),
    [
        (Kind.FAILED, "in_error", True),
        (Kind.DEFERRED, "in_error", True),
        (Kind.INITIALIZED, "in_error", False),
        (Kind.INITIALIZED, "away_too_long", True),
    ],
)
async def test_a_run_that_skips_an_instance_keeps_what_was_pending(
    host: Host, before: Kind, rule: str, *, waits: bool
) -> None:
    for kind, because in ((before, ("vifs",)), (Kind.SKIPPED, (rule,))):
        async with host.journal() as journal:
            await host.begin_run(journal)
            await journal.settled(replace(outcome(kind=kind), because=because))
            await journal.end_run(result(run=1000 + host.runs), delivery=None)
    assert (await host.past()).held == ({A} if waits else frozenset())


@pytest.mark.parametrize(
    ("rule", "waits"),
    [("away_too_long", True), ("resume_not_wanted", True), ("resume_not_known", True), ("stays_off", False)],
)
async def test_an_instance_kept_down_by_a_changeable_cause_may_still_be_brought_back(
    host: Host, rule: str, *, waits: bool
) -> None:
    """The next start on the same boot said that somebody had stopped it since."""
    async with host.journal() as journal:
        await host.begin_run(journal)
        await journal.settled(replace(outcome(kind=Kind.INITIALIZED), because=("vifs", rule)))
        await journal.end_run(result(), delivery=None)
    assert (await host.past()).held == ({A} if waits else frozenset())


@pytest.mark.parametrize(
    ("then", "is_ours"),
    [(None, True), (VmState.ERROR, True), (VmState.ACTIVE, False), (VmState.STOPPED, False)],
)
async def test_an_error_is_not_ours_once_a_later_run_found_another_record(
    host: Host, then: VmState | None, *, is_ours: bool
) -> None:
    """A record that somebody had corrected, and Nova set to ERROR later, was mistaken for one that our failure set."""
    failed = replace(outcome(kind=Kind.FAILED), instance=instance(1, vm_state=VmState.ERROR))
    found = [replace(outcome(kind=Kind.SKIPPED), instance=instance(1, vm_state=then))] if then else []
    for each in (failed, *found):
        async with host.journal() as journal:
            await host.begin_run(journal)
            if each is failed:
                await journal.began(A, REBOOT, (), was=Left.of(instance(1)))
            await journal.settled(each)
            await journal.end_run(result(run=1000 + host.runs), delivery=None)
    async with host.journal() as journal:
        await host.begin_run(journal)
        assert (A in await journal.failures()) is is_ours


async def test_a_deleted_instance_is_settled_without_a_record(host: Host) -> None:
    async with host.journal() as journal:
        await host.begin_run(journal)
        await journal.settled(outcome(deleted=True))
    settled = (await host.past()).settled[A]
    assert (settled.left, settled.outcome.deleted) == (None, True)


async def test_an_ended_run_is_followed_by_a_new_one(host: Host) -> None:
    async with host.journal() as journal:
        await host.begin_run(journal)
        await journal.settled(outcome())
        await journal.end_run(result(outcome()), delivery="acknowledged")

    past = await host.past()
    assert (past.run_id, past.attempt, past.boot_settled) == (uuid_of(1002), 1, True)
    assert (past.settled, past.in_flight) == ({}, {})


async def test_a_stopped_run_continues(host: Host) -> None:
    async with host.journal() as journal:
        await host.begin_run(journal)
        await journal.settled(outcome())
        await journal.end_run(result(outcome(), unfinished=[B]), delivery=None)

    past = await host.past()
    assert (past.run_id, past.attempt, set(past.settled), past.boot_settled) == (uuid_of(1001), 2, {A}, False)


async def test_on_another_boot_a_new_run_begins_with_what_was_in_flight(host: Host) -> None:
    await dies_in(host, DESTROY)
    past = await host.past()
    assert (past.run_id, past.attempt, past.settled) == (uuid_of(1002), 1, {})
    assert past.in_flight[A].begun == ("destroy_evacuated",)
    assert past.boot_settled is False


async def test_instances_brought_back_are_kept_for_this_boot_only(host: Host) -> None:
    async with host.journal() as journal:
        await host.begin_run(journal)
        for uuid, error in ((A, None), (B, RuntimeError("no"))):
            await journal.began(uuid, RESUME, ("ran_before",))
            journal.ended(uuid, RESUME, error)
            await journal.settled(outcome(uuid))
        await journal.end_run(result(), delivery=None)
    assert (await host.past()).resumed == {A}
    host.boot += 1
    assert (await host.past()).resumed == frozenset()


@pytest.mark.parametrize("away_s", [0, 300, 86400])
async def test_the_downtime_of_a_host_is_computed_from_its_last_sign_of_life(host: Host, away_s: float) -> None:
    async with host.journal() as journal:
        await host.begin_run(journal)
        host.clock.advance(seconds=100)
        await journal.seen(host.clock())
    host.boot += 1
    host.clock.advance(seconds=away_s)
    assert (await host.past()).downtime_s == away_s
    host.clock.advance(seconds=77)
    assert (await host.past()).downtime_s == away_s, "the same at each start of a boot"


async def test_with_a_clock_that_went_back_the_downtime_is_unknown(host: Host) -> None:
    await host.past()
    host.boot += 1
    host.clock.advance(days=-3)
    assert (await host.past()).downtime_s is None


async def test_a_boot_with_a_clock_ahead_does_not_affect_later_ones(host: Host) -> None:
    await host.past()
    for days, away_s in ((365 * 14, None), (-365 * 14, None), (1, 86_400.0)):
        host.boot += 1
        host.clock.advance(days=days)
        past = await host.past()
        assert away_s is None or past.downtime_s == away_s


async def test_a_clock_that_jumps_does_not_change_which_run_is_the_last(host: Host) -> None:
    async with host.journal() as journal:
        await host.begin_run(journal)
        host.clock.advance(days=-400)
        await journal.settled(outcome())
    past = await host.past()
    assert (past.attempt, set(past.settled)) == (2, {A})


async def test_an_instance_in_flight_at_each_host_crash_is_a_suspect(host: Host) -> None:
    counts = []
    for _ in range(3):
        past = await dies_in(host, VIFS)
        counts.append(past.suspects.get(A, 0))
    assert [*counts, (await host.past()).suspects.get(A)] == [0, 1, 2, 3]


async def test_kills_of_the_daemon_on_one_boot_make_no_suspect(host: Host) -> None:
    for _ in range(3):
        async with host.journal() as journal:
            assert (await host.begin_run(journal)).suspects == {}
            await journal.began(A, VIFS, ())
    host.boot += 1
    assert (await host.past()).suspects == {A: 1}


@pytest.mark.parametrize("step", [Step("x", Save({"task_state": None}))])
async def test_an_action_that_leaves_the_guest_alone_makes_no_suspect(host: Host, step: Step) -> None:
    await dies_in(host, step)
    assert (await host.past()).suspects == {}


async def test_a_boot_without_a_crash_clears_a_suspect(host: Host) -> None:
    await dies_in(host, VIFS)
    async with host.journal() as journal:
        await host.begin_run(journal)
        await journal.settled(outcome())
        await journal.began(B, VIFS, ())
    host.boot += 1
    assert (await host.past()).suspects == {B: 1}


async def test_an_instance_not_reached_on_a_boot_is_no_longer_a_suspect(host: Host) -> None:
    await dies_in(host, VIFS)
    await dies_in(host, VIFS, uuid=B)
    assert (await host.past()).suspects == {B: 1}


async def test_a_quarantine_lasts_over_boots_until_it_is_released(host: Host) -> None:
    for _ in range(2):
        await dies_in(host, VIFS)
    for _ in range(3):
        async with host.journal() as journal:
            assert (await host.begin_run(journal)).suspects == {A: 2}
            await journal.settled(outcome(kind=Kind.HELD))
            await journal.end_run(result(outcome(kind=Kind.HELD)), delivery=None)
        host.boot += 1
    async with host.journal() as journal:
        await journal.release([A], at=host.clock())
    past = await host.past()
    assert past.suspects == {}
    assert past.released == {A}


async def test_a_release_is_consumed_when_the_instance_is_settled(host: Host) -> None:
    async with host.journal() as journal:
        await host.begin_run(journal)
        await journal.release([A, B], at=host.clock())
        assert await journal.releases() == {A, B}
        await journal.settled(outcome(A))
        await journal.settled(outcome(B, Kind.HELD))
        assert await journal.releases() == {B}


async def test_kept_disks_are_listed_until_they_are_deleted(host: Host) -> None:
    disks = KeptDisks(uuid=A, where=("/a", "/b"), kept_at=NOON, until=NOON + timedelta(hours=1))
    async with host.journal() as journal:
        await journal.kept(disks)
        await journal.kept(KeptDisks(uuid=A, where=("/c",), kept_at=NOON, until=NOON + timedelta(hours=9)))
        assert await journal.kept_disks() == [disks]
        await journal.disks_deleted(A)
        assert await journal.kept_disks() == []


async def test_concurrent_writes_share_a_few_commits(host: Host) -> None:
    async with host.journal() as journal:
        await host.begin_run(journal)
        with closing(sqlite3.connect(host.path)) as other:
            before = other.execute("PRAGMA data_version").fetchone()[0]
            seen = {before}
            async with anyio.create_task_group() as group:
                for number in range(1, 201):
                    group.start_soon(journal.began, uuid_of(number), VIFS, ())
            frames = (host.path.parent / "journal.sqlite-wal").stat().st_size // 4096
            seen.add(other.execute("PRAGMA data_version").fetchone()[0])
    assert len(seen) == 2
    # One commit each would write several pages two hundred times over.
    assert frames < 200


async def test_old_runs_are_removed_but_never_what_is_needed(host: Host) -> None:
    host.keep_runs = 20
    for number in range(1, 31):
        async with host.journal() as journal:
            await host.begin_run(journal)
            await journal.settled(outcome())
            await journal.end_run(result(run=1000 + number), delivery=None)
        host.boot += 1
    with read(host.path) as history:
        assert history is not None
        assert len(history.runs(100)) in (20, 21)


async def test_a_wrong_clock_at_one_start_removes_nothing(host: Host) -> None:
    for _ in range(20):
        await dies_in(host, VIFS)
    host.clock.advance(days=36500)
    await host.past()
    with read(host.path) as history:
        assert history is not None
        assert len(history.runs(100)) == 21


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "no database": lambda _content: b"this is no database at all, whatever its name is" * 100,
    "header": lambda content: b"\0" * 100 + content[100:],
    "cut": lambda content: content[:5000],
    "middle": lambda content: content[:4096] + b"\xff" * 8192 + content[12288:],
    "another program's": lambda _content: b"",
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_journal_is_set_aside_and_the_run_uses_the_records(host: Host, damage: str) -> None:
    async with host.journal() as journal:
        await host.begin_run(journal)
        await journal.began(A, RESUME, ())
    spoiled = DAMAGES[damage](host.path.read_bytes())
    host.path.unlink()
    if damage == "another program's":
        with closing(sqlite3.connect(host.path)) as other:
            other.execute("CREATE TABLE theirs (x)")
    else:
        host.path.write_bytes(spoiled)

    past = await host.past()

    assert (past.run_id, past.settled, past.in_flight) == (uuid_of(1002), {}, {})
    assert past.memory_lost, "what was done on this boot is not known any more"
    assert len(list(host.path.parent.glob("journal.sqlite.corrupt-*Z"))) == 1
    assert (await host.past()).memory_lost
    host.boot += 1
    assert not (await host.past()).memory_lost


async def test_a_journal_that_the_power_loss_damaged_costs_the_new_boot_nothing(host: Host) -> None:
    await host.past()
    host.path.write_bytes(b"x" * 9000)
    host.boot += 1
    assert not (await host.past()).memory_lost


async def test_a_journal_removed_on_this_boot_is_noticed(host: Host) -> None:
    await host.past()
    host.path.unlink()
    assert (await host.past()).memory_lost


async def test_a_journal_of_a_newer_version_is_refused_and_left(host: Host) -> None:
    await host.past()
    with closing(sqlite3.connect(host.path)) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(Refused, match="its version is 99"):
        await host.past()
    with pytest.raises(Refused), read(host.path):
        pass


async def test_a_journal_that_cannot_be_written_raises_and_recovers(host: Host) -> None:
    async with host.journal() as journal:
        await host.begin_run(journal)
        with closing(sqlite3.connect(host.path, timeout=0)) as other:
            other.execute("PRAGMA busy_timeout = 0")
            journal.database.execute("PRAGMA busy_timeout = 0")
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(JournalError, match="locked"):
                await journal.began(A, VIFS, ())
            with pytest.raises(JournalError):
                await journal.settled(outcome())
            other.execute("ROLLBACK")
        await journal.settled(outcome())
    assert (await host.past()).settled.keys() == {A}


async def test_a_run_does_not_end_before_each_of_its_outcomes_is_written(host: Host) -> None:
    async with host.journal() as journal:
        await host.begin_run(journal)
        with closing(sqlite3.connect(host.path)) as other:
            journal.database.execute("PRAGMA busy_timeout = 0")
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(JournalError):
                await journal.settled(outcome(kind=Kind.HELD))
            with pytest.raises(JournalError):
                await journal.end_run(result(), delivery=None)
            other.execute("ROLLBACK")
        await journal.end_run(result(), delivery=None)
    assert (await host.past()).held == {A}


async def test_history_shows_an_instance_with_each_action(host: Host) -> None:
    async with host.journal() as journal:
        await host.begin_run(journal)
        await journal.began(A, REBOOT, ("hard_reboot_interrupted",))
        journal.ended(A, REBOOT, RuntimeError("no disk"))
        await journal.settled(outcome(kind=Kind.FAILED))
        await journal.end_run(result(outcome(kind=Kind.FAILED)), delivery="kept")

    with read(host.path) as history:
        assert history is not None
        [run] = history.runs(5)
        assert (run["state"], run["counts"]["failed"], run["delivery"]) == ("ended", 1, "kept")
        assert history.run(run["run_id"][:4]) == history.run("last") == run
        [found] = history.instance(A)
        [action] = found["actions"]
    assert (found["kind"], found["problem"]) == ("failed", ["plug_vifs", "Error", "no port"])
    assert (action["verb"], action["detail"], action["error"]) == (
        "reboot",
        {"reboot_type": "HARD"},
        "RuntimeError: no disk",
    )
    assert json.dumps(found)


def test_without_a_journal_there_is_no_history(tmp_path: Path) -> None:
    with read(tmp_path / "journal.sqlite") as history:
        assert history is None
