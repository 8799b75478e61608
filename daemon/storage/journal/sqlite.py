"""The journal in an SQLite file of its own: an entry is durable before its action starts.

Many tasks write, one commit serves them (:mod:`bringup.drivers.batching`).  The end of an action waits in memory for
the next write of its instance: after a kill in between the action counts as in flight, and is checked again.  So do
the entries of an instance that needs nothing: one commit serves many of them, and each commit takes along what waits.
Not so in a run after one that was cut short: what may have brought down the daemon or the host must be on record.

A damaged file is set aside, and the run continues from the records.  If the file cannot be written each call raises
:class:`JournalError`; each tries again.
"""

import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from bringup.daemon import closing
from bringup.daemon.decisions.guards import ALL
from bringup.daemon.decisions.outcomes import Kind, Outcome, RunResult
from bringup.daemon.decisions.readiness import Readiness
from bringup.daemon.decisions.rules import Step
from bringup.daemon.decisions.verdicts import GuestVerdict
from bringup.daemon.errors import JournalError
from bringup.daemon.logs import get_logger
from bringup.daemon.storage.journal import queries
from bringup.daemon.storage.journal.base import FailedBefore, Journal, KeptDisks, Left, NewRun, Past, StartPause
from bringup.daemon.storage.journal.file import JournalFile, Mark
from bringup.daemon.storage.journal.in_progress import ActionsInProgress
from bringup.daemon.storage.journal.queries import delete_old_runs, start_run
from bringup.daemon.storage.journal.rows import (
    Begun,
    BegunAction,
    BegunInstance,
    Entry,
    ReadyEntry,
    SettledEntry,
    VerdictEntry,
    detail_of,
    dump_readiness,
    settled_entry,
    text_of,
    write_entries,
    write_left,
    write_rules,
)
from bringup.daemon.storage.journal.schema import ENDED, STOPPED, decoding
from bringup.daemon.storage.journal.waiting import WaitingEntries
from bringup.daemon.storage.sqlite_file import transaction
from bringup.daemon.tasks import background
from bringup.drivers.batching import ROUND, Gathering, in_thread

log = get_logger()

T = TypeVar("T")
CLOSE_S = closing.JOURNAL_S
WAIT_S = 0.25
"""How long an entry waits that need not be written at once."""
SHARE_S = 0.1
"""How long an outcome waits for others at most, which is awaited."""


class SqliteJournal(Journal):
    """A :class:`bringup.daemon.storage.journal.base.Journal` in a file; :func:`open_journal` opens it."""

    def __init__(
        self, path: Path, *, boot_id: str, keep_runs: int, keep_days: int, now: Callable[[], datetime]
    ) -> None:
        """Store the path; nothing is opened yet."""
        self._path = path
        self._file = JournalFile(path, now)
        self._boot_id = boot_id
        self._keep_runs = keep_runs
        self._keep_days = keep_days
        self._now = now
        self._thread = anyio.CapacityLimiter(1)
        self._run = 0
        self._attempt = 1
        self._doing = ActionsInProgress()
        self._unwritten_outcomes: dict[str, SettledEntry] = {}
        """Outcomes that could not be written; they are written with the end of the run, or the run has none."""
        self._waiting = WaitingEntries()
        self._was_cut_short = True
        self._is_unwritten = False
        self._entries: Gathering[Sequence[Entry], None] = Gathering(
            in_thread(self._write_round, self._thread), failure=JournalError, most=ROUND
        )
        self._together: Gathering[Entry, None] = Gathering(
            self._write_together, failure=JournalError, most=ROUND, pause_s=SHARE_S
        )

    async def open(self) -> None:
        """Open the file; replace a damaged one.  One that cannot be written is tried again later.

        :raises Refused: a newer version of bringup wrote it.
        """
        self._file.is_ours = True
        with suppress(JournalError):
            await self._in_thread("open", self._file.open)

    @property
    def database(self) -> sqlite3.Connection:
        """Return the connection; open it if necessary.  Raises sqlite3.Error."""
        return self._connection()

    async def close(self) -> None:
        """Finish the writes that were handed over, then close the file."""
        with anyio.move_on_after(CLOSE_S, shield=True):
            await self._together.close()
            await self._entries.close()
            await anyio.to_thread.run_sync(self._file.close, limiter=self._thread)

    async def begin_run(self, run: NewRun) -> Past:
        """Start a run, or continue the interrupted one of the same boot and host."""
        return await self._in_thread("begin a run", lambda: self._begin_run(run))

    def _begin_run(self, run: NewRun) -> Past:
        mark = Mark(self._path)
        with decoding(), transaction(self._connection()) as database:
            past, self._run = start_run(database, run, lost=partial(mark.lost, run.boot_id))
            delete_old_runs(database, run, self._run, keep_runs=self._keep_runs, keep_days=self._keep_days)
        self._file.store_run(run, past, self._run)
        mark.write(run.boot_id)
        self._attempt = past.attempt
        self._was_cut_short = past.was_cut_short
        self._doing.clear()
        self._waiting.clear()
        self._unwritten_outcomes.clear()
        return past

    async def began(
        self, uuid: str, step: Step, because: Sequence[str], *, was: Left | None = None, at_once: bool = True
    ) -> None:
        """Write that ``step`` is about to start, the rules that have held so far, and the record before."""
        end, number = self._doing.take_end(uuid, self._run, self._attempt), self._doing.next_number(uuid)
        at = text_of(self._now())
        rules, before = write_rules(tuple(because)), None if was is None else write_left(was)
        verb, detail = step.action.verb, detail_of(step.action)
        entry = Begun(
            BegunInstance(self._run, uuid, self._attempt, rules, at, before),
            BegunAction(self._run, uuid, self._attempt, number, step.rule, verb, detail, at),
            end,
        )
        try:
            await self._write(uuid, entry, at_once=at_once)
        finally:
            self._doing.began(uuid)

    def ended(self, uuid: str, step: Step, error: Exception | None) -> None:
        """Note the end of ``step``; it is written with whatever is written next for this instance."""
        del step
        self._doing.ended(uuid, text_of(self._now()), error)

    async def settled(self, outcome: Outcome, *, at_once: bool = True) -> None:
        """Write the outcome of an instance."""
        await self._write(outcome.uuid, self._settled(outcome), at_once=at_once)
        self._unwritten_outcomes.pop(outcome.uuid, None)

    def may_share(self, uuid: str) -> bool:
        """Check whether the outcome of an instance may share a commit: nothing of it had to be on disk before."""
        return self._waiting.accepts_more_of(uuid)

    async def settled_with_others(self, outcome: Outcome) -> None:
        """Write the outcome of an instance, a moment later, in a commit that others share."""
        self._waiting.close(outcome.uuid)
        await self._together.submit(self._settled(outcome))
        self._unwritten_outcomes.pop(outcome.uuid, None)

    async def _write_together(self, entries: Sequence[Entry]) -> list[None]:
        await self._submit(*entries)
        return [None] * len(entries)

    def _settled(self, outcome: Outcome) -> SettledEntry:
        """Return the entry of an outcome; it is unwritten from now on."""
        end = self._doing.take_end(outcome.uuid, self._run, self._attempt)
        entry = settled_entry(outcome, self._run, self._attempt, end, at=text_of(self._now()))
        self._unwritten_outcomes[outcome.uuid] = entry
        return entry

    async def ready(self, uuid: str, readiness: Readiness) -> None:
        """Write how long the guest of a settled instance took to be ready."""
        await self._submit(ReadyEntry(self._run, uuid, dump_readiness(readiness)))

    async def verified(self, uuid: str, verdict: GuestVerdict) -> None:
        """Write the verdict on the guest of a settled instance."""
        await self._submit(VerdictEntry(self._run, uuid, verdict.word, verdict.why))

    @asynccontextmanager
    async def sharing_commits(self) -> AsyncIterator[None]:
        """Allow entries to wait in this block, each for a bounded time; none waits after it."""
        self._waiting.are_allowed = not self._was_cut_short
        try:
            async with background() as group:
                group.start_soon(self._write_in_time, name="journal")
                yield
        finally:
            self._waiting.are_allowed = False
        await self._write_waiting()

    async def _write_in_time(self) -> None:
        while True:
            await anyio.sleep(WAIT_S)
            await self._write_waiting()

    async def _write_waiting(self) -> None:
        if self._waiting:
            with suppress(JournalError):
                await self._submit()

    async def _write(self, uuid: str, entry: Entry, *, at_once: bool) -> None:
        if not self._waiting.accepts(uuid, entry, at_once=at_once):
            await self._submit(entry)
        elif len(self._waiting) >= ROUND:
            await self._submit()

    async def _submit(self, *entries: Entry) -> None:
        """Write entries, and those that wait before them."""
        try:
            await self._entries.submit(entries)
        except JournalError as error:
            # What waits must not pile up.
            self._unwritten_outcomes |= {each.instance.uuid: each for each in self._waiting.dropped_outcomes()}
            self._log_unwritten(str(error))
            raise
        self._log_written()

    def _write_round(self, submitted: Sequence[Sequence[Entry]]) -> list[None]:
        entries = [entry for each in submitted for entry in each]

        def write() -> None:
            with self._transaction() as database:
                write_entries(database, entries)
                self._touch(database)

        try:
            if entries or self._waiting:
                self._file.run(write)
        except (sqlite3.Error, OSError) as error:
            raise JournalError(self._cannot("write", error)) from error
        return [None] * len(submitted)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Run one transaction that writes first what waits."""
        with self._waiting.taken() as waiting, transaction(self._connection()) as database:
            write_entries(database, waiting)
            yield database

    def _touch(self, database: sqlite3.Connection) -> None:
        database.execute("UPDATE boots SET last_seen = ? WHERE boot_id = ?", (text_of(self._now()), self._boot_id))

    async def end_run(self, result: RunResult, *, delivery: str | None) -> None:
        """Write the end of a run; one with unfinished instances was stopped, and continues at the next start."""
        state = STOPPED if result.unfinished else ENDED
        counts = json.dumps({**result.counts(), "did": result.count_done()})
        at = text_of(self._now())

        def end() -> None:
            with self._transaction() as database:
                write_entries(database, list(self._unwritten_outcomes.values()))
                database.execute(
                    "UPDATE runs SET state = ?, ended_at = ?, took_s = ?, error = ?, counts = ?, delivery = ? "
                    "WHERE number = ?",
                    (state, at, round(result.took_s, 6), result.error, counts, delivery, self._run),
                )
                if state == ENDED and not any(each.kind is Kind.HELD or each.is_paused for each in result.outcomes):
                    database.execute("UPDATE releases SET taken_at = ? WHERE uuid = ?", (at, ALL))
                if state == ENDED:
                    # Those that had no record: the run has read the request and checked.
                    database.execute(
                        "UPDATE retries SET taken_at = ? WHERE taken_at IS NULL AND after_run < ?", (at, self._run)
                    )
                self._touch(database)

        await self._in_thread("end a run", end)
        self._unwritten_outcomes.clear()

    async def kept(self, disks: KeptDisks) -> None:
        """Write where disks were set aside; repeating it is harmless, the first time counts."""
        values = (disks.uuid, json.dumps(disks.where), text_of(disks.kept_at), text_of(disks.until))
        await self._do("write kept disks", "INSERT INTO kept_disks VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", values)

    async def kept_disks(self) -> list[KeptDisks]:
        """Return the disks that are set aside and not deleted yet, oldest first."""
        return await self._in_thread("read which disks are kept", lambda: queries.kept_disks(self._connection()))

    async def disks_deleted(self, uuid: str) -> None:
        """Write that disks that were set aside are deleted."""
        await self._do("delete kept disks", "DELETE FROM kept_disks WHERE uuid = ?", (uuid,))

    async def seen(self, at: datetime) -> None:
        """Write that this host was alive."""
        values = (text_of(at), self._boot_id)
        await self._do("write that the host is alive", "UPDATE boots SET last_seen = ? WHERE boot_id = ?", values)

    async def releases(self) -> frozenset[str]:
        """Return what an operator has released, and what has no outcome since."""
        return await self._in_thread("read the releases", lambda: queries.waiting_releases(self._connection()))

    async def release(self, uuids: Collection[str], *, at: datetime) -> None:
        """Write that an operator releases these UUIDs, or :data:`ALL` that are held."""
        await self._write_request("release", "INSERT INTO releases (uuid, at, after_run) VALUES (?, ?, ?)", uuids, at)

    async def retries(self) -> frozenset[str]:
        """Return the UUIDs for which an operator requested a retry, and that have no outcome since."""
        return await self._in_thread("read the retries", lambda: queries.waiting_retries(self._connection()))

    async def retry(self, uuids: Collection[str], *, at: datetime) -> None:
        """Write that an operator requests a retry of these."""
        await self._write_request("retry", "INSERT INTO retries (uuid, at, after_run) VALUES (?, ?, ?)", uuids, at)

    async def pause(self) -> StartPause | None:
        """Return the pause of starts that was requested last, unless an operator has ended it."""
        return await self._in_thread("read whether starts are paused", lambda: queries.last_pause(self._connection()))

    async def write_pause(self, pause: StartPause) -> None:
        """Write that an operator pauses all starts; it replaces an earlier pause."""
        values = (text_of(pause.since), text_of(pause.until))
        await self._do("write the pause", "INSERT INTO pauses (at, until) VALUES (?, ?)", values)

    async def end_pause(self, *, at: datetime) -> None:
        """Write that an operator ends the pause of starts."""
        await self._do("end the pause", "UPDATE pauses SET ended_at = ? WHERE ended_at IS NULL", (text_of(at),))

    async def failures(self) -> Mapping[str, FailedBefore]:
        """Return the instances whose records a failure has changed."""
        return await self._in_thread("read what failed", lambda: queries.failures(self._connection(), self._boot_id))

    async def _write_request(self, request: str, statement: str, uuids: Collection[str], at: datetime) -> None:
        def write() -> None:
            with transaction(self._connection()) as database:
                (after_run,) = database.execute("SELECT coalesce(max(number), 0) FROM runs").fetchone()
                database.executemany(statement, [(uuid, text_of(at), after_run) for uuid in uuids])

        await self._in_thread(f"write the {request}", write)

    async def _do(self, doing: str, statement: str, values: tuple[Any, ...]) -> None:
        def write() -> None:
            with transaction(self._connection()) as database:
                database.execute(statement, values)

        await self._in_thread(doing, write)

    async def _in_thread(self, doing: str, work: Callable[[], T]) -> T:
        try:
            answer = await anyio.to_thread.run_sync(self._file.run, work, limiter=self._thread)
        except (sqlite3.Error, OSError) as error:
            text = self._cannot(doing, error)
            self._log_unwritten(text)
            raise JournalError(text) from error
        self._log_written()
        return answer

    def _cannot(self, doing: str, error: Exception) -> str:
        return f"cannot {doing} in the journal {self._path}: {str(error) or type(error).__name__}"

    def _log_unwritten(self, text: str) -> None:
        if not self._is_unwritten:
            self._is_unwritten = True
            log.error("journal.not_written", error=text)

    def _log_written(self) -> None:
        if self._is_unwritten:
            self._is_unwritten = False
            log.info("journal.writable", path=str(self._path))

    def _connection(self) -> sqlite3.Connection:
        return self._file.database()


@asynccontextmanager
async def open_journal(
    path: Path, *, boot_id: str, keep_runs: int, keep_days: int, now: Callable[[], datetime]
) -> AsyncIterator[SqliteJournal]:
    """Open a journal and close it on exit; one that cannot be used does not stop the caller.

    :raises Refused: a newer version of bringup wrote it.
    """
    journal = SqliteJournal(path, boot_id=boot_id, keep_runs=keep_runs, keep_days=keep_days, now=now)
    try:
        await journal.open()
        yield journal
    finally:
        await journal.close()
