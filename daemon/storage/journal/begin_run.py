"""Start or continuation of a run: what the journal returns and writes then, and which old runs it deletes."""

import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from bringup.daemon.storage.journal import queries
from bringup.daemon.storage.journal.base import NewRun, Past
from bringup.daemon.storage.journal.queries import BootRow, boot_of
from bringup.daemon.storage.journal.rows import text_of
from bringup.daemon.storage.journal.schema import RUNNING, STOPPED

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


def begin(database: sqlite3.Connection, run: NewRun, *, lost: Callable[..., bool]) -> tuple[Past, int]:
    """Start a run, or continue the interrupted one; return what is known, and the number of its row.

    ``lost(is_new=...)`` returns whether a journal of this boot is missing.
    """
    is_new = database.execute("SELECT 1 FROM runs LIMIT 1").fetchone() is None
    boot = _write_boot(database, run, memory_lost=lost(is_new=is_new))
    past, continued = known_to(database, run.run_id, run.host, boot)
    if continued is not None:
        database.execute("UPDATE runs SET attempt = ?, state = ? WHERE number = ?", (past.attempt, RUNNING, continued))
        return past, continued
    values = (past.run_id, boot.number, run.host, text_of(run.began_at), past.attempt, RUNNING)
    cursor = database.execute(
        "INSERT INTO runs (run_id, boot, host, began_at, attempt, state) VALUES (?, ?, ?, ?, ?, ?)", values
    )
    return past, cursor.lastrowid or 0


def known_to(database: sqlite3.Connection, run_id: str, host: str, boot: BootRow) -> tuple[Past, int | None]:
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
        settled={} if continued is None else queries.settled_in(database, continued),
        in_flight=queries.in_flight_in(database, last.number) if was_interrupted else {},
        resumed=queries.resumed_on(database, boot.number),
        boot_settled=queries.is_settled(database, boot.number),
        held=queries.held_on(database, boot.number),
        memory_lost=boot.memory_lost,
        downtime_s=boot.down_s,
        suspects=queries.suspects_before(database, boot.number),
        released=queries.waiting_releases(database),
        retried=queries.waiting_retries(database),
    )
    return past, continued


def begin_again(database: sqlite3.Connection, run: NewRun, past: Past, number: int, *, memory_lost: bool) -> None:
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
    at, down_s = text_of(run.began_at), queries.away_s(database, run.began_at)
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
