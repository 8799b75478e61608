"""Rows of the journal for actions and outcomes, and the JSON in their columns."""

import dataclasses
import json
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

from bringup.daemon.decisions.actions import Action
from bringup.daemon.decisions.describe import arguments_of, need_json
from bringup.daemon.decisions.outcomes import Kind, Outcome, Problem, did_named
from bringup.daemon.decisions.readiness import READY_BY, Readiness
from bringup.daemon.storage.journal.base import Left
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedState


class BegunInstance(NamedTuple):
    """A row of ``instances`` whose outcome is still open."""

    run: int
    uuid: str
    attempt: int
    because: str
    began_at: str
    was: str | None


class SettledInstance(NamedTuple):
    """A row of ``instances`` with its outcome."""

    run: int
    uuid: str
    attempt: int
    because: str
    settled_at: str
    kind: str
    outcome: str
    left_as: str | None


class BegunAction(NamedTuple):
    """A row of ``actions`` without its end."""

    run: int
    uuid: str
    attempt: int
    number: int
    rule: str
    verb: str
    detail: str | None
    began_at: str


class ActionEnd(NamedTuple):
    """The end of an action, and the row that it belongs to; in the order of the statement."""

    ended_at: str
    took_s: float
    error: str | None
    run: int
    uuid: str
    attempt: int
    number: int


@dataclass(frozen=True, slots=True)
class Begun:
    """An action that is about to begin."""

    instance: BegunInstance
    action: BegunAction
    end: ActionEnd | None
    """Of the action before it."""


@dataclass(frozen=True, slots=True)
class SettledEntry:
    """An outcome."""

    instance: SettledInstance
    end: ActionEnd | None
    keeps_release: bool
    """A release of this instance is still to be carried out."""
    keeps_retry: bool


class ReadyEntry(NamedTuple):
    """A row of ``ready``: how long a guest took to be ready."""

    run: int
    uuid: str
    readiness: str


class VerdictEntry(NamedTuple):
    """A row of ``verdicts``."""

    run: int
    uuid: str
    word: str
    why: str


Entry = Begun | SettledEntry | ReadyEntry | VerdictEntry
NO_END: Final = (None, None, None)
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


def write_entries(database: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Write entries in the caller's transaction."""
    begun = [entry for entry in entries if isinstance(entry, Begun)]
    settled = [entry for entry in entries if isinstance(entry, SettledEntry)]
    given = [*(entry.end for entry in begun), *(entry.end for entry in settled)]
    ends = {tuple(end[3:]): end for end in given if end is not None}
    if begun:
        database.executemany(
            f"""INSERT INTO instances {_into(BegunInstance._fields)}
            ON CONFLICT DO UPDATE SET attempt = excluded.attempt, because = excluded.because, kind = NULL,
            was = coalesce(excluded.was, was)""",
            [_escaped(row) for row in _last_of_each(begun)],
        )
        # The end of an action that was begun in this round is written with its beginning.
        database.executemany(
            f"INSERT INTO actions {_into(BegunAction._fields + ActionEnd._fields[:3])} ON CONFLICT DO NOTHING",
            [_escaped((*entry.action, *ends.pop(entry.action[:4], NO_END)[:3])) for entry in begun],
        )
    if ends:
        database.executemany(
            """UPDATE actions SET ended_at = ?, took_s = ?, error = ?
            WHERE run = ? AND uuid = ? AND attempt = ? AND number = ?""",
            map(_escaped, ends.values()),
        )
    if settled:
        database.executemany(
            f"""INSERT INTO instances {_into(SettledInstance._fields)}
            ON CONFLICT DO UPDATE SET attempt = excluded.attempt,
            because = excluded.because, settled_at = excluded.settled_at, kind = excluded.kind,
            outcome = excluded.outcome, left_as = excluded.left_as""",
            [_escaped(entry.instance) for entry in settled],
        )
        taken = [(entry.instance.settled_at, _plain(entry.instance.uuid)) for entry in settled]
        released = [each for each, entry in zip(taken, settled, strict=True) if not entry.keeps_release]
        retried = [each for each, entry in zip(taken, settled, strict=True) if not entry.keeps_retry]
        database.executemany("UPDATE releases SET taken_at = ? WHERE uuid = ? AND taken_at IS NULL", released)
        database.executemany("UPDATE retries SET taken_at = ? WHERE uuid = ? AND taken_at IS NULL", retried)
    _write_of_guests(database, entries)


def _write_of_guests(database: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Write what is known of guests after their outcome: their instances are in this transaction, or an earlier one."""
    for table, kind in (("ready", ReadyEntry), ("verdicts", VerdictEntry)):
        rows = [_escaped(entry) for entry in entries if isinstance(entry, kind)]
        if rows:
            database.executemany(f"INSERT OR REPLACE INTO {table} {_into(kind._fields)}", rows)


def _last_of_each(begun: Sequence[Begun]) -> Collection[BegunInstance]:
    """Return the last row of each instance, with the time of its first."""
    rows: dict[str, BegunInstance] = {}
    for row in (entry.instance for entry in begun):
        first = rows.get(row.uuid, row)
        rows[row.uuid] = row if first is row else row._replace(began_at=first.began_at)
    return rows.values()


def _into(columns: Sequence[str]) -> str:
    """Return the columns of a row, and their places."""
    return f"({', '.join(columns)}) VALUES ({', '.join('?' for _ in columns)})"


def _escaped(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a row with half surrogates escaped: one must not fail the rows that share its commit."""
    return tuple(_plain(value) if isinstance(value, str) else value for value in row)


def _plain(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def text_of(at: datetime) -> str:
    """Return a time as text."""
    return at.isoformat(timespec="microseconds")


def detail_of(action: Action) -> str | None:
    """Return the fields of an action as JSON; None where it has none."""
    arguments = arguments_of(action)
    return json.dumps(arguments) if arguments else None


def settled_entry(outcome: Outcome, run: int, attempt: int, end: ActionEnd | None, *, at: str) -> SettledEntry:
    """Return the entry of an outcome, with the end of the last action."""
    row = SettledInstance(
        run=run,
        uuid=outcome.uuid,
        attempt=attempt,
        because=write_rules(outcome.because),
        settled_at=at,
        kind=outcome.kind.value,
        outcome=dump_outcome(outcome),
        left_as=dump_left(outcome),
    )
    is_held = outcome.kind is Kind.HELD or outcome.is_paused
    return SettledEntry(row, end, keeps_release=is_held, keeps_retry=outcome.is_paused)


def dump_outcome(outcome: Outcome) -> str:
    """Return an outcome as JSON, without its record."""
    return _encode(
        {
            "kind": outcome.kind.value,
            "name": outcome.name,
            "project_id": outcome.project_id,
            "did": outcome.did.value,
            "because": outcome.because,
            "took_s": round(outcome.took_s, 6),
            "problem": _problem(outcome.problem),
            "warnings": [_problem(each) for each in outcome.warnings],
            "slowest": outcome.slowest,
            "deleted": outcome.deleted,
            "runs": outcome.runs,
            "needs": [need_json(need) for need in outcome.needs],
        }
    )


def _problem(problem: Problem | None) -> list[str] | None:
    return None if problem is None else [problem.action, problem.error, problem.message]


def load_outcome(uuid: str, text: str) -> Outcome:
    """Parse an outcome.  Raises ValueError, KeyError or TypeError if it is not one."""
    document: dict[str, Any] = json.loads(text)
    problem, slowest = document["problem"], document["slowest"]
    return Outcome(
        uuid=uuid,
        kind=Kind(document["kind"]),
        because=tuple(document["because"]),
        took_s=document["took_s"],
        problem=None if problem is None else Problem(*problem),
        warnings=tuple(Problem(*each) for each in document["warnings"]),
        slowest=None if slowest is None else (slowest[0], slowest[1]),
        deleted=document["deleted"],
        # An earlier version did not write these, a later one may know more of them.
        name=document.get("name", ""),
        project_id=document.get("project_id"),
        did=did_named(document.get("did")),
        runs=document.get("runs", False),
        needs=tuple(_need(each) for each in document.get("needs", ())),
    )


def _need(text: dict[str, str]) -> Need:
    return Need(
        kind=NeedKind(text["kind"]),
        name=text["name"],
        state=NeedState(text["state"]),
        met_by=MetBy(text["met_by"]),
        why=text["why"],
    )


def dump_readiness(readiness: Readiness) -> str:
    """Return how a guest became ready as JSON."""
    seconds = {key: round(value, 3) for key, value in dataclasses.asdict(readiness).items() if key != "by"}
    return json.dumps({"by": readiness.by, **seconds}, separators=(",", ":"))


def load_readiness(text: str) -> Readiness:
    """Parse it.  Raises ValueError, KeyError or TypeError if it is none."""
    document: dict[str, Any] = json.loads(text)
    by = document.pop("by")
    seconds = {key: float(value) for key, value in document.items() if key in _SECONDS}
    return Readiness(by=by if by in READY_BY else None, **seconds)


_SECONDS: Final = frozenset(field.name for field in dataclasses.fields(Readiness)) - {"by"}


def dump_left(outcome: Outcome) -> str | None:
    """Return the record of an outcome as JSON; None if it was deleted or never read."""
    if outcome.instance is None or outcome.deleted:
        return None
    return write_left(Left.of(outcome.instance))


@lru_cache
def write_rules(names: tuple[str, ...]) -> str:
    """Return the names of rules as JSON; thousands of instances share a few."""
    return json.dumps(names)


@lru_cache
def write_left(left: Left) -> str:
    """Return the columns of a record as JSON."""
    return _encode({"host": left.host, "vm_state": left.vm_state, "task_state": left.task_state})


def load_left(text: str | None) -> Left | None:
    """Parse the columns of a record."""
    return None if text is None else Left(**json.loads(text))
