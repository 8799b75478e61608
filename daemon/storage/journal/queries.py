"""Queries of the journal for a run that starts, and for an import, which must keep guests that are not back.

A run starts, or an interrupted one continues, in the transaction that reads what is known.
"""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from bringup.daemon.decisions.actions import (
    CompletePartialDeletion,
    LookAtGuest,
    ResumeStateOnHostBoot,
    Save,
    SaveMigration,
    SetError,
)
from bringup.daemon.decisions.guards import ALL
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.storage.journal.base import FailedBefore, InFlight, KeptDisks, NewRun, Past, Settled, StartPause
from bringup.daemon.storage.journal.rows import load_left, load_outcome, load_readiness, text_of
from bringup.daemon.storage.journal.schema import ENDED, RUNNING, STOPPED, decoding

LEAVES_GUEST_ALONE = (Save, SaveMigration, SetError, LookAtGuest, CompletePartialDeletion)
KEPT_DOWN = ("away_too_long", "resume_not_wanted", "resume_not_known")
"""Rules that keep a guest off that ran, and that may decide otherwise when they are read again."""
TROUBLED = (Kind.FAILED.value, Kind.SUPERSEDED.value)
"""Outcomes of an instance that could not be settled as planned."""
BOOTS_COUNTED = 16
"""Number of earlier boots that are read."""


class BootRow(NamedTuple):
    """A row of ``boots``."""

    number: int
    down_s: float | None
    memory_lost: bool


def boot_of(database: sqlite3.Connection, boot_id: str) -> BootRow | None:
    """Read a boot; None if no run was started on it."""
    row = database.execute("SELECT number, down_s, memory_lost FROM boots WHERE boot_id = ?", (boot_id,)).fetchone()
    return None if row is None else BootRow(row[0], row[1], bool(row[2]))


def downtime_before(database: sqlite3.Connection, at: datetime) -> float | None:
    """Return how long nothing was written before a time, in seconds; None if unknown."""
    # The last boot, not the latest time: one boot with a clock that was ahead must not count for ever.
    last = database.execute("SELECT last_seen FROM boots ORDER BY number DESC LIMIT 1").fetchone()
    if last is None:
        return None
    found = (at - datetime.fromisoformat(last[0])).total_seconds()
    # A clock that went backwards proves nothing.
    return found if found >= 0 else None


def settled_in(database: sqlite3.Connection, run: int) -> dict[str, Settled]:
    """Return the outcomes of a run; without held and deferred instances, which are checked again."""
    rows = database.execute(
        "SELECT uuid, outcome, left_as FROM instances WHERE run = ? AND kind IS NOT NULL AND kind NOT IN (?, ?)",
        (run, Kind.HELD.value, Kind.DEFERRED.value),
    )
    return {uuid: Settled(load_outcome(uuid, outcome), load_left(left)) for uuid, outcome, left in rows}


def in_flight_in(database: sqlite3.Connection, run: int) -> dict[str, InFlight]:
    """Return what was in progress when a run was interrupted."""
    because = {
        uuid: tuple(json.loads(text))
        for uuid, text in database.execute("SELECT uuid, because FROM instances WHERE run = ? AND kind IS NULL", (run,))
    }
    begun: dict[str, list[str]] = defaultdict(list)
    done: dict[str, list[str]] = defaultdict(list)
    rows = database.execute(
        """SELECT uuid, verb, ended_at, error FROM actions JOIN instances USING (run, uuid)
        WHERE run = ? AND kind IS NULL ORDER BY actions.attempt, number""",
        (run,),
    )
    for uuid, verb, ended_at, error in rows:
        if ended_at is None:
            begun[uuid].append(verb)
        elif error is None:
            done[uuid].append(verb)
    return {
        uuid: InFlight(because=rules, begun=tuple(begun[uuid]), done=tuple(done[uuid]))
        for uuid, rules in because.items()
    }


def resumed_on(database: sqlite3.Connection, boot: int) -> frozenset[str]:
    """Return the UUIDs of instances whose guest was brought back on a boot."""
    rows = database.execute(
        """SELECT DISTINCT uuid FROM actions JOIN runs ON runs.number = run
        WHERE boot = ? AND verb = ? AND actions.ended_at IS NOT NULL AND actions.error IS NULL""",
        (boot, ResumeStateOnHostBoot.verb),
    )
    return frozenset(uuid for (uuid,) in rows)


def is_settled(database: sqlite3.Connection, boot: int) -> bool:
    """Check whether a run ended on a boot."""
    query = "SELECT 1 FROM runs WHERE boot = ? AND state = ? LIMIT 1"
    return database.execute(query, (boot, ENDED)).fetchone() is not None


def held_on(database: sqlite3.Connection, boot: int) -> frozenset[str]:
    """Return the UUIDs that have not had their turn on a boot, though a run of it may have ended.

    Those that were held or deferred, or kept down by metadata or by the downtime of the host; those that failed or were
    superseded while their guest did not run, and those that could not be brought back or got no start claim.  A guest
    that ran has had its turn.  The last outcome of an instance counts, whatever was begun since and interrupted; a
    skipped one shows nothing of its guest, and its outcome before that counts.
    """
    # SQLite documents that a bare column beside max() is of the row that has it.
    rows = database.execute(
        """SELECT uuid FROM (SELECT uuid, outcome, max(run) FROM instances
            WHERE run IN (SELECT number FROM runs WHERE boot = ?) AND outcome IS NOT NULL
            AND (json_extract(outcome, '$.kind') != ? OR json_extract(outcome, '$.because[#-1]') IN (?, ?, ?))
            GROUP BY uuid)
        WHERE json_extract(outcome, '$.kind') = ?
        OR json_extract(outcome, '$.kind') IN (?, ?, ?) AND NOT coalesce(json_extract(outcome, '$.runs'), 0)
        OR json_extract(outcome, '$.kind') IN (?, ?) AND json_extract(outcome, '$.problem[0]') = ?
        OR json_extract(outcome, '$.because[#-1]') IN (?, ?, ?)""",
        (
            boot,
            Kind.SKIPPED.value,
            *KEPT_DOWN,
            Kind.HELD.value,
            Kind.DEFERRED.value,
            *TROUBLED,
            *TROUBLED,
            ResumeStateOnHostBoot.verb,
            *KEPT_DOWN,
        ),
    )
    return frozenset(uuid for (uuid,) in rows)


def waiting_releases(database: sqlite3.Connection) -> frozenset[str]:
    """Return what was released and has no outcome since."""
    return frozenset(uuid for (uuid,) in database.execute("SELECT uuid FROM releases WHERE taken_at IS NULL"))


@decoding()
def kept_disks(database: sqlite3.Connection) -> list[KeptDisks]:
    """Return the disks that are set aside and not deleted yet, oldest first."""
    rows = database.execute("SELECT uuid, place, kept_at, until FROM kept_disks ORDER BY kept_at, uuid")
    at = datetime.fromisoformat
    return [
        KeptDisks(uuid=uuid, where=tuple(json.loads(place)), kept_at=at(kept_at), until=at(until))
        for uuid, place, kept_at, until in rows
    ]


def waiting_retries(database: sqlite3.Connection) -> frozenset[str]:
    """Return the UUIDs with a pending retry; none if an earlier version wrote the journal."""
    if not has_table(database, "retries"):
        return frozenset()
    return frozenset(uuid for (uuid,) in database.execute("SELECT uuid FROM retries WHERE taken_at IS NULL"))


def has_table(database: sqlite3.Connection, name: str) -> bool:
    """Check whether there is a table: an earlier version has fewer."""
    return database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchone() is not None


def ready_before(database: sqlite3.Connection, run: int | None) -> dict[str, float]:
    """Return how long guests took from their slot until they were ready, the last time before a run, by UUID.

    None: before a new run.  A run that continues has the order that it began with.
    """
    if not has_table(database, "ready"):
        return {}
    last = "SELECT uuid, readiness, max(run) FROM ready WHERE ? IS NULL OR run < ? GROUP BY uuid"
    found = {uuid: load_readiness(text) for uuid, text, _run in database.execute(last, (run, run))}
    return {uuid: each.start_s + each.boot_s for uuid, each in found.items() if each.by is not None}


@decoding()
def last_pause(database: sqlite3.Connection) -> StartPause | None:
    """Return the last pause of starts, unless an operator has ended it."""
    row = database.execute("SELECT at, until, ended_at FROM pauses ORDER BY number DESC LIMIT 1").fetchone()
    if row is None or row[2] is not None:
        return None
    return StartPause(since=datetime.fromisoformat(row[0]), until=datetime.fromisoformat(row[1]))


@decoding()
def failures(database: sqlite3.Connection, boot_id: str) -> dict[str, FailedBefore]:
    """Return the instances that a failure changed, the last time that it did: set to ERROR, task state cleared.

    If a later run left the record otherwise than the failure did, the failure is over: its state since is not ours.
    """
    rows = database.execute(
        """SELECT uuid, kind, was, left_as, boot_id FROM instances JOIN runs ON runs.number = run
        JOIN boots ON boots.number = boot WHERE kind IS NOT NULL AND left_as IS NOT NULL ORDER BY run"""
    )
    found: dict[str, FailedBefore] = {}
    for uuid, kind, was, left_as, failed_on in rows:
        if kind != Kind.FAILED.value and uuid not in found:
            continue
        before, left = load_left(was), load_left(left_as)
        if kind == Kind.FAILED.value and before is not None and left is not None and before != left:
            found[uuid] = FailedBefore(before, left, failed_on == boot_id)
        elif uuid in found and left != found[uuid].left:
            del found[uuid]
    return found


def suspects_before(database: sqlite3.Connection, boot: int) -> dict[str, int]:
    """Count, for each instance, on how many boots in a row before this one it was in flight when the host died.

    A boot on which it was held neither counts nor breaks the row; a release by an operator starts a new one.
    """
    # The last run of each earlier boot, the latest boot first: only what it was doing can be related to the death.
    last_runs = database.execute(
        """SELECT number, state, attempt FROM runs WHERE number IN (SELECT max(number) FROM runs WHERE boot != ?
        GROUP BY boot) ORDER BY number DESC LIMIT ?""",
        (boot, BOOTS_COUNTED),
    ).fetchall()
    released = dict(database.execute("SELECT uuid, max(after_run) FROM releases GROUP BY uuid"))
    released_all = released.get(ALL, -1)
    counts: dict[str, int] = {}
    row: set[str] | None = None
    for run, state, attempt in last_runs:
        died_in = _worked_on(database, run, attempt) if state == RUNNING else set()
        held = _held(database, run)
        if row is None:
            row = died_in | held
        for uuid in list(row):
            if run <= max(released.get(uuid, -1), released_all) or uuid not in died_in | held:
                row.remove(uuid)
            elif uuid in died_in:
                counts[uuid] = counts.get(uuid, 0) + 1
    return counts


def _worked_on(database: sqlite3.Connection, run: int, attempt: int) -> set[str]:
    marks = ", ".join("?" for _ in LEAVES_GUEST_ALONE)
    rows = database.execute(
        f"""SELECT DISTINCT uuid FROM actions JOIN instances USING (run, uuid)
        WHERE run = ? AND kind IS NULL AND actions.attempt = ? AND ended_at IS NULL AND verb NOT IN ({marks})""",  # noqa: S608 - marks are question marks
        (run, attempt, *(action.verb for action in LEAVES_GUEST_ALONE)),
    )
    return {uuid for (uuid,) in rows}


def _held(database: sqlite3.Connection, run: int) -> set[str]:
    query = "SELECT uuid FROM instances WHERE run = ? AND kind = ?"
    return {uuid for (uuid,) in database.execute(query, (run, Kind.HELD.value))}


NOT_BACK = (None, Kind.FAILED.value, Kind.HELD.value, Kind.DEFERRED.value, Kind.SUPERSEDED.value)
"""Outcomes of an instance that has not had its turn; None: none yet."""
# A skipped instance shows nothing of its guest; its outcome before that does.
_LAST = """
SELECT uuid, kind, json_extract(outcome, '$.problem[0]'), boot_id FROM instances
JOIN runs ON runs.number = run JOIN boots ON boots.number = boot
WHERE kind IS NULL OR kind != ? ORDER BY run
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotBack:
    """Guests that are not back, according to the journal."""

    settled: bool = False
    """A run ended on this boot, and what it did is known."""
    not_back: frozenset[str] = frozenset()
    """UUIDs of those that the runs of this boot could not bring back, or have not reached."""
    failed_starts: frozenset[str] = frozenset()
    """UUIDs of those whose last outcome, on whatever boot, was that their start failed."""


def not_back_on(database: sqlite3.Connection, boot_id: str) -> NotBack:
    """Return which guests are not back on a boot."""
    boot = boot_of(database, boot_id)
    last = {uuid: rest for uuid, *rest in database.execute(_LAST, (Kind.SKIPPED.value,))}
    return NotBack(
        settled=boot is not None and not boot.memory_lost and is_settled(database, boot.number),
        not_back=frozenset(uuid for uuid, (kind, _verb, on) in last.items() if on == boot_id and kind in NOT_BACK),
        failed_starts=frozenset(
            uuid
            for uuid, (kind, verb, _on) in last.items()
            if kind == Kind.FAILED.value and verb == ResumeStateOnHostBoot.verb
        ),
    )


PROTECTED_RUNS = 16
"""Number of last runs that are kept whatever their age: the quarantine reads them."""


class LastRun(NamedTuple):
    """The last row of ``runs``."""

    number: int = 0
    run_id: str = ""
    boot: int = 0
    host: str = ""
    state: str = ""
    attempt: int = 0


def start_run(database: sqlite3.Connection, run: NewRun, *, lost: Callable[..., bool]) -> tuple[Past, int]:
    """Start a run, or continue the interrupted one; return what is known, and the number of its row.

    ``lost(is_new=...)`` returns whether a journal of this boot is missing.
    """
    is_new = database.execute("SELECT 1 FROM runs LIMIT 1").fetchone() is None
    boot = _write_boot(database, run, memory_lost=lost(is_new=is_new))
    past, continued = past_at_start(database, run.run_id, run.host, boot)
    if continued is not None:
        database.execute("UPDATE runs SET attempt = ?, state = ? WHERE number = ?", (past.attempt, RUNNING, continued))
        return past, continued
    values = (past.run_id, boot.number, run.host, text_of(run.began_at), past.attempt, RUNNING)
    cursor = database.execute(
        "INSERT INTO runs (run_id, boot, host, began_at, attempt, state) VALUES (?, ?, ?, ?, ?, ?)", values
    )
    return past, cursor.lastrowid or 0


def past_at_start(database: sqlite3.Connection, run_id: str, host: str, boot: BootRow) -> tuple[Past, int | None]:
    """Return what a run of this id that begins on ``boot`` knows, and the number of the run that it continues.

    It continues the last one if that was interrupted on the same boot and host; None: it continues none.
    """
    row = database.execute(
        f"SELECT {', '.join(LastRun._fields)} FROM runs ORDER BY number DESC LIMIT 1"  # noqa: S608 - our own names
    ).fetchone()
    last = LastRun(*row or ())
    was_interrupted = last.state in (RUNNING, STOPPED)
    continued = last.number if was_interrupted and last.boot == boot.number and last.host == host else None
    past = Past(
        run_id=run_id if continued is None else last.run_id,
        attempt=1 if continued is None else last.attempt + 1,
        was_cut_short=was_interrupted,
        settled={} if continued is None else settled_in(database, continued),
        in_flight=in_flight_in(database, last.number) if was_interrupted else {},
        resumed=resumed_on(database, boot.number),
        boot_settled=is_settled(database, boot.number),
        held=held_on(database, boot.number),
        memory_lost=boot.memory_lost,
        downtime_s=boot.down_s,
        suspects=suspects_before(database, boot.number),
        released=waiting_releases(database),
        retried=waiting_retries(database),
        took_s=ready_before(database, continued),
    )
    return past, continued


def write_current_run(database: sqlite3.Connection, run: NewRun, past: Past, number: int, *, memory_lost: bool) -> None:
    """Write the current run into a file that lacks it, under the number that its entries have."""
    if database.execute("SELECT 1 FROM runs WHERE number = ?", (number,)).fetchone() is not None:
        return
    boot = _write_boot(database, run, memory_lost=memory_lost)
    database.execute(
        "INSERT INTO runs (number, run_id, boot, host, began_at, attempt, state) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (number, past.run_id, boot.number, run.host, text_of(run.began_at), past.attempt, RUNNING),
    )


def _write_boot(database: sqlite3.Connection, run: NewRun, *, memory_lost: bool) -> BootRow:
    """Read the boot of a run; write it if this is its first one."""
    found = boot_of(database, run.boot_id)
    if found is not None:
        return found
    at, down_s = text_of(run.began_at), downtime_before(database, run.began_at)
    cursor = database.execute(
        "INSERT INTO boots (boot_id, first_seen, last_seen, down_s, memory_lost) VALUES (?, ?, ?, ?, ?)",
        (run.boot_id, at, at, down_s, memory_lost),
    )
    return BootRow(cursor.lastrowid or 0, down_s, memory_lost)


def delete_old_runs(database: sqlite3.Connection, run: NewRun, number: int, *, keep_runs: int, keep_days: int) -> None:
    """Delete runs beyond the limits of number and age, but none of this boot and none of the last ones."""
    # The time of the run before counts as well: one start with a wrong clock must not delete everything.
    before = database.execute("SELECT began_at FROM runs WHERE number < ? ORDER BY number DESC LIMIT 1", (number,))
    times = [run.began_at, *(datetime.fromisoformat(text) for (text,) in before)]
    oldest = text_of(min(times) - timedelta(days=keep_days))
    database.execute(
        """DELETE FROM runs WHERE boot != (SELECT boot FROM runs WHERE number = ?) AND number <= ? AND (began_at < ?
        OR number NOT IN (SELECT number FROM runs ORDER BY number DESC LIMIT ?))""",
        (number, number - PROTECTED_RUNS, oldest, keep_runs),
    )
    database.execute(
        """DELETE FROM boots WHERE boot_id != ? AND number NOT IN (SELECT boot FROM runs)
        AND number < (SELECT max(number) FROM boots)""",
        (run.boot_id,),
    )
