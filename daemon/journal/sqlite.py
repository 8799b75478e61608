"""The journal in an SQLite file of its own: durable before the deed, many at a time.

Many tasks write, one commit serves them (:mod:`bringup.daemon.store.gathering`).  The end of an action waits in memory
for the next write of its instance: killed in between, the action counts as in flight, and is looked at again.

A file that is damaged is set aside, and the run goes on from the records.  A file that cannot be written makes each
call raise :class:`JournalError`; each tries again.
"""

import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import anyio
import anyio.to_thread

from bringup.daemon.decisions import Step
from bringup.daemon.errors import JournalError, StoreError
from bringup.daemon.journal import remembering
from bringup.daemon.journal.base import ALL, KeptDisks, NewRun, Past
from bringup.daemon.journal.documents import detail_of, dump_left, dump_outcome
from bringup.daemon.journal.file import CORRUPT, Remembered, connect, set_aside
from bringup.daemon.journal.schema import ENDED, RUNNING, STOPPED
from bringup.daemon.logs import get_logger
from bringup.daemon.outcomes import Kind, Outcome, RunResult
from bringup.daemon.store.gathering import Gathering

log = get_logger()

T = TypeVar("T")
CLOSE_S = 10.0
PROTECTED_RUNS = 16
"""So many of the last runs are kept whatever their age and number: the quarantine looks at them."""


@dataclass(slots=True)
class _Doing:
    """The action of an instance that is under way, or has ended and is not written yet."""

    number: int
    began: float
    end: tuple[str, float, str | None] | None = None
    """When it ended, seconds that it took, what went wrong."""


@dataclass(frozen=True, slots=True)
class _Begun:
    """An action that is about to be done."""

    instance: tuple[Any, ...]
    action: tuple[Any, ...]
    end: tuple[Any, ...] | None


@dataclass(frozen=True, slots=True)
class _Settled:
    """An outcome."""

    uuid: str
    instance: tuple[Any, ...]
    end: tuple[Any, ...] | None
    at: str
    is_held: bool


_Entry = _Begun | _Settled


class SqliteJournal:
    """A :class:`bringup.daemon.journal.base.Journal` in a file; :func:`opened` makes it."""

    def __init__(
        self, path: Path, *, boot_id: str, keep_runs: int, keep_days: int, now: Callable[[], datetime]
    ) -> None:
        """Take the file; nothing is opened yet."""
        self._path = path
        self._boot_id = boot_id
        self._keep_runs = keep_runs
        self._keep_days = keep_days
        self._now = now
        self._thread = anyio.CapacityLimiter(1)
        self._database: sqlite3.Connection | None = None
        self._run = 0
        self._attempt = 1
        self._doing: dict[str, _Doing] = {}
        self._numbers: dict[str, int] = {}
        self._owed: dict[str, _Settled] = {}
        """Outcomes that could not be written; written with the end of the run, or the run has none."""
        self._is_unwritten = False
        self._entries: Gathering[_Entry, None] = Gathering(self._write_round, self._thread)

    async def open(self) -> None:
        """Open the file, or set a damaged one aside and begin anew; one that cannot be written is tried again later.

        :raises Refused: a newer version of bringup wrote it.
        """
        with suppress(JournalError):
            await self._in_thread("open", self._open)

    @property
    def database(self) -> sqlite3.Connection:
        """The connection, opened if need be; raises sqlite3.Error."""
        return self._opened()

    async def close(self) -> None:
        """Finish the writes that were handed over, then close the file."""
        with anyio.move_on_after(CLOSE_S, shield=True):
            await self._entries.close()
            await anyio.to_thread.run_sync(self._close, limiter=self._thread)

    def _open(self) -> None:
        try:
            self._database = connect(self._path)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in CORRUPT:
                raise
            kept_as = set_aside(self._path, self._now())
            log.error("journal.set_aside", path=str(self._path), kept_as=str(kept_as), error=str(error))  # noqa: TRY400 - a sentence, no traceback
            self._database = connect(self._path)

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    async def begin_run(self, run: NewRun) -> Past:
        """Begin a run, or go on with the one of the same boot and host that was cut short."""
        return await self._in_thread("begin a run", lambda: self._begin_run(run))

    def _begin_run(self, run: NewRun) -> Past:
        remembered = Remembered(self._path)
        with self._transaction() as database:
            boot, down_s, memory_lost = self._see_boot(
                database, run, memory_lost=remembered.lost(run.boot_id, is_new=self._is_new(database))
            )
            last = database.execute(
                "SELECT number, run_id, boot, host, state, attempt FROM runs ORDER BY number DESC LIMIT 1"
            ).fetchone()
            was_cut_short = last is not None and last[4] in (RUNNING, STOPPED)
            goes_on = was_cut_short and last[2] == boot and last[3] == run.host
            run_id, attempt = (last[1], last[5] + 1) if goes_on else (run.run_id, 1)
            boot_settled = remembering.is_settled(database, boot)
            past = Past(
                run_id=run_id,
                attempt=attempt,
                settled=remembering.settled_in(database, last[0]) if goes_on else {},
                in_flight=remembering.in_flight_in(database, last[0]) if was_cut_short else {},
                resumed=remembering.resumed_on(database, boot),
                boot_settled=boot_settled,
                held=remembering.held_on(database, boot),
                memory_lost=memory_lost,
                downtime_s=down_s,
                suspects=remembering.suspects_before(database, boot),
                released=remembering.waiting_releases(database),
            )
            if goes_on:
                self._run = last[0]
                database.execute(
                    "UPDATE runs SET attempt = ?, state = ? WHERE number = ?", (attempt, RUNNING, self._run)
                )
            else:
                values = (run_id, boot, run.host, _text(run.began_at), 1, RUNNING)
                cursor = database.execute(
                    "INSERT INTO runs (run_id, boot, host, began_at, attempt, state) VALUES (?, ?, ?, ?, ?, ?)", values
                )
                self._run = cursor.lastrowid or 0
            self._forget_the_old(database, boot, run.began_at)
        remembered.remember(run.boot_id)
        self._attempt = attempt
        self._doing.clear()
        self._numbers.clear()
        self._owed.clear()
        return past

    @staticmethod
    def _is_new(database: sqlite3.Connection) -> bool:
        return database.execute("SELECT 1 FROM runs LIMIT 1").fetchone() is None

    def _see_boot(
        self, database: sqlite3.Connection, run: NewRun, *, memory_lost: bool
    ) -> tuple[int, float | None, bool]:
        query = "SELECT number, down_s, memory_lost FROM boots WHERE boot_id = ?"
        row = database.execute(query, (run.boot_id,)).fetchone()
        if row is None:
            (last_seen,) = database.execute("SELECT max(last_seen) FROM boots").fetchone()
            down_s = None
            if last_seen is not None:
                down_s = (run.began_at - datetime.fromisoformat(last_seen)).total_seconds()
                # A clock that went backwards says nothing.
                down_s = down_s if down_s >= 0 else None
            at = _text(run.began_at)
            database.execute(
                "INSERT INTO boots (boot_id, first_seen, last_seen, down_s, memory_lost) VALUES (?, ?, ?, ?, ?)",
                (run.boot_id, at, at, down_s, memory_lost),
            )
            row = database.execute(query, (run.boot_id,)).fetchone()
        return row[0], row[1], bool(row[2])

    def _forget_the_old(self, database: sqlite3.Connection, boot: int, now: datetime) -> None:
        # By the clock of the run before as well: one start with a wrong clock must not forget everything.
        before = database.execute(
            "SELECT began_at FROM runs WHERE number < ? ORDER BY number DESC LIMIT 1", (self._run,)
        )
        times = [now, *(datetime.fromisoformat(text) for (text,) in before)]
        oldest = _text(min(times) - timedelta(days=self._keep_days))
        database.execute(
            """DELETE FROM runs WHERE boot != ? AND number <= ? AND (began_at < ? OR number NOT IN
            (SELECT number FROM runs ORDER BY number DESC LIMIT ?))""",
            (boot, self._run - PROTECTED_RUNS, oldest, self._keep_runs),
        )
        database.execute(
            "DELETE FROM boots WHERE boot_id != ? AND number NOT IN (SELECT boot FROM runs) AND number < "
            "(SELECT max(number) FROM boots)",
            (self._boot_id,),
        )

    async def began(self, uuid: str, step: Step, because: Sequence[str]) -> None:
        """Write that ``step`` is about to be done, and the rules that have held for the instance so far."""
        number = self._numbers[uuid] = self._numbers.get(uuid, 0) + 1
        end = self._take_end(uuid)
        at = _text(self._now())
        entry = _Begun(
            (self._run, uuid, self._attempt, json.dumps(list(because)), at),
            (self._run, uuid, self._attempt, number, step.rule, step.action.verb, detail_of(step.action), at),
            end,
        )
        try:
            await self._write(entry)
        finally:
            self._doing[uuid] = _Doing(number, time.monotonic())

    def ended(self, uuid: str, step: Step, error: Exception | None) -> None:
        """Take note of the end of ``step``; written with whatever is written next for this instance."""
        del step
        doing = self._doing.get(uuid)
        if doing is not None:
            text = None if error is None else f"{type(error).__name__}: {error}"
            doing.end = (_text(self._now()), round(time.monotonic() - doing.began, 6), text)

    def _take_end(self, uuid: str) -> tuple[Any, ...] | None:
        doing = self._doing.pop(uuid, None)
        if doing is None or doing.end is None:
            return None
        return (*doing.end, self._run, uuid, self._attempt, doing.number)

    async def settled(self, outcome: Outcome) -> None:
        """Write what came of an instance."""
        at = _text(self._now())
        uuid = outcome.uuid
        instance = (
            self._run,
            uuid,
            self._attempt,
            json.dumps(outcome.because),
            at,
            outcome.kind.value,
            dump_outcome(outcome),
            dump_left(outcome),
        )
        entry = _Settled(uuid, instance, self._take_end(uuid), at, outcome.kind is Kind.HELD)
        self._owed[uuid] = entry
        await self._write(entry)
        self._owed.pop(uuid, None)

    async def _write(self, entry: _Entry) -> None:
        try:
            await self._entries.ask(entry)
        except StoreError as error:
            self._say_unwritten(str(error))
            raise JournalError(str(error)) from error.__cause__
        self._say_written()

    def _write_round(self, entries: Sequence[_Entry]) -> list[StoreError | None]:
        try:
            with self._transaction() as database:
                _write_entries(database, entries)
                self._touch(database)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(self._cannot("write", error)) from error
        return [None] * len(entries)

    def _touch(self, database: sqlite3.Connection) -> None:
        database.execute("UPDATE boots SET last_seen = ? WHERE boot_id = ?", (_text(self._now()), self._boot_id))

    async def host_step(self, name: str) -> None:
        """Write that a step of the host as a whole was done."""
        values = (self._run, self._attempt, name, _text(self._now()))
        await self._do("note a step", "INSERT INTO host_steps VALUES (?, ?, ?, ?)", values)

    async def end_run(self, result: RunResult, *, delivery: str | None) -> None:
        """Write the end of a run; one with unfinished instances was stopped, and goes on when it is begun again."""
        state = STOPPED if result.unfinished else ENDED
        counts = json.dumps({kind.value: result.count(kind) for kind in Kind})
        at = _text(self._now())

        def end() -> None:
            with self._transaction() as database:
                _write_entries(database, list(self._owed.values()))
                database.execute(
                    "UPDATE runs SET state = ?, ended_at = ?, took_s = ?, error = ?, counts = ?, delivery = ? "
                    "WHERE number = ?",
                    (state, at, round(result.took_s, 6), result.error, counts, delivery, self._run),
                )
                if state == ENDED and not result.count(Kind.HELD):
                    database.execute("UPDATE releases SET taken_at = ? WHERE uuid = ?", (at, ALL))
                self._touch(database)

        await self._in_thread("end a run", end)
        self._owed.clear()

    async def kept(self, disks: KeptDisks) -> None:
        """Write where disks were set aside; again is fine, the first time counts."""
        values = (disks.uuid, json.dumps(disks.where), _text(disks.kept_at), _text(disks.until))
        await self._do("note kept disks", "INSERT INTO kept_disks VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", values)

    async def kept_disks(self) -> list[KeptDisks]:
        """Give the disks that are set aside and not deleted yet, oldest first."""

        def read() -> list[KeptDisks]:
            rows = self._opened().execute("SELECT uuid, place, kept_at, until FROM kept_disks ORDER BY kept_at, uuid")
            return [
                KeptDisks(
                    uuid=uuid,
                    where=tuple(json.loads(place)),
                    kept_at=datetime.fromisoformat(kept_at),
                    until=datetime.fromisoformat(until),
                )
                for uuid, place, kept_at, until in rows
            ]

        return await self._in_thread("read which disks are kept", read)

    async def disks_deleted(self, uuid: str) -> None:
        """Write that disks that were set aside are deleted."""
        await self._do("forget kept disks", "DELETE FROM kept_disks WHERE uuid = ?", (uuid,))

    async def seen(self, at: datetime) -> None:
        """Write that this host was alive."""
        values = (_text(at), self._boot_id)
        await self._do("note that the host lives", "UPDATE boots SET last_seen = ? WHERE boot_id = ?", values)

    async def releases(self) -> frozenset[str]:
        """Give what an operator has released since no outcome was written of it."""
        return await self._in_thread("read the releases", lambda: remembering.waiting_releases(self._opened()))

    async def release(self, uuids: Collection[str], *, at: datetime) -> None:
        """Write an operator's word."""

        def write() -> None:
            with self._transaction() as database:
                (after_run,) = database.execute("SELECT coalesce(max(number), 0) FROM runs").fetchone()
                database.executemany(
                    "INSERT INTO releases (uuid, at, after_run) VALUES (?, ?, ?)",
                    [(uuid, _text(at), after_run) for uuid in uuids],
                )

        await self._in_thread("write the release", write)

    async def _do(self, doing: str, statement: str, values: tuple[Any, ...]) -> None:
        def write() -> None:
            with self._transaction() as database:
                database.execute(statement, values)

        await self._in_thread(doing, write)

    async def _in_thread(self, doing: str, work: Callable[[], T]) -> T:
        try:
            answer = await anyio.to_thread.run_sync(work, limiter=self._thread)
        except (sqlite3.Error, OSError, ValueError, KeyError, TypeError) as error:
            text = self._cannot(doing, error)
            self._say_unwritten(text)
            raise JournalError(text) from error
        self._say_written()
        return answer

    def _cannot(self, doing: str, error: Exception) -> str:
        return f"cannot {doing} in the journal {self._path}: {str(error) or type(error).__name__}"

    def _say_unwritten(self, text: str) -> None:
        if not self._is_unwritten:
            self._is_unwritten = True
            log.error("journal.not_written", error=text)

    def _say_written(self) -> None:
        if self._is_unwritten:
            self._is_unwritten = False
            log.info("journal.written_again", path=str(self._path))

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            self._open()
        if self._database is None:
            self._never()
        return self._database

    def _never(self) -> NoReturn:
        raise sqlite3.OperationalError("it is not open")

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._opened())


class _Transaction:
    """One transaction that writes from its start: the lock is waited for there, or not at all."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> sqlite3.Connection:
        self._database.execute("BEGIN IMMEDIATE")
        return self._database

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                self._database.execute("COMMIT")
            except sqlite3.Error:
                self._roll_back()
                raise
        else:
            self._roll_back()

    def _roll_back(self) -> None:
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")


def _write_entries(database: sqlite3.Connection, entries: Sequence[_Entry]) -> None:
    begun = [entry for entry in entries if isinstance(entry, _Begun)]
    settled = [entry for entry in entries if isinstance(entry, _Settled)]
    # Begun first: the end of an action that was begun in this round finds it.
    if begun:
        database.executemany(
            """INSERT INTO instances (run, uuid, attempt, because, began_at) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET attempt = excluded.attempt, because = excluded.because, kind = NULL""",
            [entry.instance for entry in begun],
        )
        database.executemany(
            """INSERT INTO actions (run, uuid, attempt, number, rule, verb, detail, began_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING""",
            [entry.action for entry in begun],
        )
    ends = [entry.end for entry in entries if entry.end is not None]
    if ends:
        database.executemany(
            """UPDATE actions SET ended_at = ?, took_s = ?, error = ?
            WHERE run = ? AND uuid = ? AND attempt = ? AND number = ?""",
            ends,
        )
    if settled:
        database.executemany(
            """INSERT INTO instances (run, uuid, attempt, because, settled_at, kind, outcome, left_as)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET attempt = excluded.attempt,
            because = excluded.because, settled_at = excluded.settled_at, kind = excluded.kind,
            outcome = excluded.outcome, left_as = excluded.left_as""",
            [entry.instance for entry in settled],
        )
        database.executemany(
            "UPDATE releases SET taken_at = ? WHERE uuid = ? AND taken_at IS NULL",
            [(entry.at, entry.uuid) for entry in settled if not entry.is_held],
        )


def _text(at: datetime) -> str:
    return at.isoformat(timespec="microseconds")


@asynccontextmanager
async def opened(
    path: Path, *, boot_id: str, keep_runs: int, keep_days: int, now: Callable[[], datetime]
) -> AsyncIterator[SqliteJournal]:
    """Open a journal and close it at the end; one that cannot be used does not stop who opens it.

    :raises Refused: a newer version of bringup wrote it.
    """
    journal = SqliteJournal(path, boot_id=boot_id, keep_runs=keep_runs, keep_days=keep_days, now=now)
    try:
        await journal.open()
        yield journal
    finally:
        await journal.close()
