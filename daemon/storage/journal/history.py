"""Content of a journal for operators: runs, instances, actions, kept disks.  Read only, also beside a daemon."""

import errno
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from bringup.daemon.decisions.advice import advice, for_one
from bringup.daemon.decisions.outcomes import Kind, attention_of, did_named
from bringup.daemon.decisions.readiness import BOOTS, Readiness, TimeToReady, time_to_ready
from bringup.daemon.decisions.verdicts import WORDS, GuestVerdict
from bringup.daemon.errors import WHO_MAY, Refused, Temporary
from bringup.daemon.storage.journal import queries
from bringup.daemon.storage.journal.base import FailedBefore, Past, StartPause
from bringup.daemon.storage.journal.file import version_of
from bringup.daemon.storage.journal.queries import BootRow, NotBack, boot_of, not_back_on, past_at_start
from bringup.daemon.storage.journal.rows import load_readiness
from bringup.daemon.storage.journal.schema import VERSION, check_content, decoding
from bringup.daemon.storage.sqlite_file import damage_error, is_damage, open_read_only, unknown_write_version
from bringup.drivers.files import database_file_problem

Row = dict[str, Any]

_RUNS = """
SELECT run_id, boot_id, host, began_at, ended_at, attempt, state, took_s, error, counts, delivery, runs.number
FROM runs JOIN boots ON boots.number = boot
"""
_INSTANCES = """
SELECT run_id, uuid, instances.attempt, because, kind, outcome, instances.began_at, settled_at
FROM instances JOIN runs ON runs.number = run
"""
_ACTIONS = """
SELECT uuid, attempt, number, rule, verb, detail, began_at, ended_at, took_s, error FROM actions
WHERE run = (SELECT number FROM runs WHERE run_id = ?) AND uuid = ? ORDER BY attempt, number
"""
_LAST_OUTCOME = "SELECT outcome FROM instances WHERE uuid = ? AND outcome IS NOT NULL ORDER BY run DESC LIMIT 1"
_OF_RUN = "run = (SELECT number FROM runs WHERE run_id = ?)"
_BARS = f"SELECT uuid, kind, outcome, began_at, settled_at FROM instances WHERE {_OF_RUN} ORDER BY uuid"  # noqa: S608
_SEGMENTS = f"SELECT uuid, verb, began_at, ended_at, error FROM actions WHERE {_OF_RUN} ORDER BY uuid, attempt, number"  # noqa: S608
_BOOTED = frozenset(did.value for did in BOOTS)


class DamagedJournal(Refused):
    """The file is damaged; the next start sets it aside."""


class History:
    """One reading of a journal."""

    def __init__(self, database: sqlite3.Connection) -> None:
        """Store the connection; :func:`read` opens it."""
        self._database = database
        database.row_factory = sqlite3.Row

    def check(self) -> None:
        """Check all of it.  Raises sqlite3.DatabaseError if it is damaged."""
        check_content(self._database)

    @decoding()
    def runs(self, limit: int) -> list[Row]:
        """Return the last runs, the newest first."""
        rows = self._database.execute(f"{_RUNS} ORDER BY runs.number DESC LIMIT ?", (limit,))
        return [_run(row) for row in rows]

    @decoding()
    def run(self, prefix: str) -> Row | None:
        """Return the run whose id has this prefix, or the ``last`` one; None if there is none, or more than one."""
        if prefix == "last":
            return next(iter(self.runs(1)), None)
        rows = self._database.execute(
            f"{_RUNS} WHERE substr(run_id, 1, ?) = ? LIMIT 2", (len(prefix), prefix)
        ).fetchall()
        return _run(rows[0]) if len(rows) == 1 else None

    @decoding()
    def instances_of(self, run_id: str) -> list[Row]:
        """Return the instances of a run: those that need an operator first, then the unsettled, then the others."""
        rows = [
            _instance(row) for row in self._database.execute(f"{_INSTANCES} WHERE run_id = ? ORDER BY uuid", (run_id,))
        ]
        for row in rows:
            row["name"] = row["name"] or self.name_of(row["uuid"])
        return sorted(rows, key=lambda row: (not _needs_attention(row), row["kind"] is not None))

    @decoding()
    def instance(self, uuid: str) -> list[Row]:
        """Return an instance with its actions in each run, the newest first."""
        query = f"{_INSTANCES} WHERE uuid = ? ORDER BY runs.number DESC"
        found = [_instance(row) for row in self._database.execute(query, (uuid,))]
        for row in found:
            actions = self._database.execute(_ACTIONS, (row["run_id"], uuid))
            row["actions"] = [_action(each) for each in actions]
        return found

    @decoding()
    def ready_of(self, run_id: str) -> dict[str, Readiness]:
        """Return how the guests that a run has started became ready, by UUID; none if an earlier version ran."""
        if not queries.has_table(self._database, "ready"):
            return {}
        rows = self._database.execute(f"SELECT uuid, readiness FROM ready WHERE {_OF_RUN}", (run_id,))  # noqa: S608 - our own
        return {row["uuid"]: load_readiness(row["readiness"]) for row in rows}

    @decoding()
    def verdicts_of(self, run_id: str) -> dict[str, GuestVerdict]:
        """Return the verdicts on the guests that a run has started, by UUID; none if an earlier version ran."""
        if not queries.has_table(self._database, "verdicts"):
            return {}
        rows = self._database.execute(f"SELECT uuid, word, why FROM verdicts WHERE {_OF_RUN}", (run_id,))  # noqa: S608 - our own
        return {row["uuid"]: GuestVerdict(row["word"], row["why"]) for row in rows if row["word"] in WORDS}

    def time_to_ready(self, run_id: str) -> TimeToReady:
        """Return how long the guests that a run has started took until they were ready."""
        started = sum(row["did"] in _BOOTED for row in self.instances_of(run_id))
        return time_to_ready(self.ready_of(run_id).values(), started=started)

    @decoding()
    def rows_of(self, run_id: str) -> tuple[list[sqlite3.Row], list[sqlite3.Row]]:
        """Return the rows for the timeline of a run: its instances, and their actions in the order of time."""
        bars = self._database.execute(_BARS, (run_id,)).fetchall()
        return bars, self._database.execute(_SEGMENTS, (run_id,)).fetchall()

    @decoding()
    def pause(self) -> StartPause | None:
        """Return the last pause of starts, unless an operator has ended it; an earlier version knows none."""
        return queries.last_pause(self._database) if queries.has_table(self._database, "pauses") else None

    @decoding()
    def kept_disks(self) -> list[Row]:
        """Return the disks that are set aside, oldest first."""
        rows = self._database.execute("SELECT uuid, place, kept_at, until FROM kept_disks ORDER BY kept_at, uuid")
        return [
            {
                "uuid": row["uuid"],
                "name": self.name_of(row["uuid"]),
                "where": json.loads(row["place"]),
                "kept_at": row["kept_at"],
                "until": row["until"],
            }
            for row in rows
        ]

    @decoding()
    def name_of(self, uuid: str) -> str:
        """Return the name that an instance had when a run last settled it; empty where none did."""
        row = self._database.execute(_LAST_OUTCOME, (uuid,)).fetchone()
        return "" if row is None else str(json.loads(row["outcome"]).get("name", ""))

    @decoding()
    def past(self, boot_id: str, host: str, at: datetime) -> Past:
        """Return what a run that started now would know; nothing is started."""
        database = self._database
        boot = boot_of(database, boot_id) or BootRow(0, queries.downtime_before(database, at), memory_lost=False)
        past, _ = past_at_start(database, "", host, boot)
        return past

    @decoding()
    def not_back(self, boot_id: str) -> NotBack:
        """Return which guests are not back on a boot."""
        return not_back_on(self._database, boot_id)

    @decoding()
    def held(self) -> list[str]:
        """Return the UUIDs that the last run holds."""
        return self.last_with(Kind.HELD)

    @decoding()
    def last_with(self, *kinds: Kind) -> list[str]:
        """Return the UUIDs whose outcome in the last run is one of these."""
        last = self.run("last")
        if last is None:
            return []
        values = [kind.value for kind in kinds]
        return [row["uuid"] for row in self.instances_of(last["run_id"]) if row["kind"] in values]

    def last_because(self, rule: str) -> set[str]:
        """Return the UUIDs for which a rule held in the last run."""
        last = self.run("last")
        rows = [] if last is None else self.instances_of(last["run_id"])
        return {row["uuid"] for row in rows if rule in row["because"]}

    @decoding()
    def failures(self, boot_id: str) -> dict[str, FailedBefore]:
        """Return the instances whose records a failure has changed, by UUID."""
        has_column = any(row["name"] == "was" for row in self._database.execute("PRAGMA table_info(instances)"))
        return queries.failures(self._database, boot_id) if has_column else {}


def _run(row: sqlite3.Row) -> Row:
    found = dict(row)
    del found["number"]
    found["counts"] = json.loads(found["counts"]) if found["counts"] else None
    # An earlier version did not write these.
    found["did"] = found["counts"].pop("did", None) if found["counts"] else None
    return found


def _instance(row: sqlite3.Row) -> Row:
    outcome = json.loads(row["outcome"]) if row["kind"] is not None else {}
    return {
        "run_id": row["run_id"],
        "uuid": row["uuid"],
        "name": outcome.get("name", ""),
        "project_id": outcome.get("project_id"),
        "kind": row["kind"],
        "did": outcome.get("did"),
        "because": json.loads(row["because"]),
        "attempt": row["attempt"],
        "began_at": row["began_at"],
        "settled_at": row["settled_at"] if row["kind"] is not None else None,
        "took_s": outcome.get("took_s"),
        "slowest": outcome.get("slowest"),
        "problem": outcome.get("problem"),
        "warnings": outcome.get("warnings", []),
        "needs": outcome.get("needs", []),
        "deleted": outcome.get("deleted", False),
        "advice": for_one(_advice(row["kind"], outcome), row["uuid"]),
    }


def _needs_attention(row: Row) -> bool:
    return row["kind"] is not None and attention_of(Kind(row["kind"]), did_named(row["did"])) is not None


def _advice(kind: str | None, outcome: Row) -> str | None:
    problem = outcome.get("problem") or next(iter(outcome.get("warnings", ())), None)
    if kind is None:
        return None
    met_by = {need["met_by"] for need in outcome.get("needs", ())}
    return advice(Kind(kind), did_named(outcome.get("did")), None if problem is None else problem[1], met_by)


def _action(row: sqlite3.Row) -> Row:
    found = dict(row)
    del found["uuid"]
    found["detail"] = json.loads(found["detail"]) if found["detail"] else {}
    return found


@contextmanager
def read(path: Path) -> Iterator[History | None]:
    """Open a journal for reading; None if there is none yet.

    :raises Temporary: it cannot be read now.
    :raises Refused: a newer version of bringup wrote it, or it is not a journal.
    """
    if found := database_file_problem(path):
        raise _damaged(path) from damage_error(found)
    # Its status is read, and it is never opened: the daemon reads here too (POST /release), and closing a descriptor of
    # a file drops all locks that the process has on it, the daemon's own among them.
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    except PermissionError as error:
        raise _may_not(path, os.strerror(error.errno or 0)) from None
    except OSError:
        # SQLite reports what is wrong with it.
        pass
    # A journal that may not be read is not a missing one.
    if not os.access(path, os.R_OK, effective_ids=True):
        raise _may_not(path, os.strerror(errno.EACCES))
    try:
        with open_read_only(path) as database:
            # A daemon that has just created the file has not filled it yet.
            yield History(database) if _version(database, path) else None
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        # A damaged name is not UTF-8, and Python's module has no error of its own for that.
        if is_damage(error):
            raise _damaged(path) from error
        raise Temporary(f"cannot read the journal {path}") from error


def _may_not(path: Path, why: str) -> Refused:
    return Refused(f"cannot read the journal {path} ({why}): {WHO_MAY}")


def _damaged(path: Path) -> DamagedJournal:
    return DamagedJournal(f"cannot read the journal {path}; it is damaged; the next start sets it aside")


def damage(path: Path) -> str | None:
    """Describe the damage of a journal; None if it is sound, or missing.  Not for a process that has it open.

    :raises BringupError: it cannot be read now, or is of a newer version.
    """
    try:
        with read(path) as history:
            if history is not None:
                history.check()
    except DamagedJournal as error:
        return str(error.__cause__)
    return unknown_write_version(path)


class NewerJournal(Refused):
    """A newer version of bringup wrote it; run refuses it too."""


def _version(database: sqlite3.Connection, path: Path) -> int:
    version = version_of(database)
    if version > VERSION:
        raise NewerJournal(
            f"cannot read the journal {path}: its version is {version}, this version of bringup knows {VERSION}; "
            "run the version that wrote it; if there was never a newer one here, rename the file"
        )
    return version
