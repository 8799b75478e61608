"""Entries of the journal about an instance, as rows: an action that is about to begin, an outcome."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple


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
    is_held: bool


Entry = Begun | SettledEntry


def write_entries(database: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Write entries in the caller's transaction."""
    begun = [entry for entry in entries if isinstance(entry, Begun)]
    settled = [entry for entry in entries if isinstance(entry, SettledEntry)]
    # Begun first: the end of an action that was begun in this round finds it.
    if begun:
        database.executemany(
            f"""INSERT INTO instances {_into(BegunInstance)}
            ON CONFLICT DO UPDATE SET attempt = excluded.attempt, because = excluded.because, kind = NULL,
            was = coalesce(excluded.was, was)""",
            [_escaped(entry.instance) for entry in begun],
        )
        database.executemany(
            f"INSERT INTO actions {_into(BegunAction)} ON CONFLICT DO NOTHING",
            [_escaped(entry.action) for entry in begun],
        )
    ends = [_escaped(entry.end) for entry in entries if entry.end is not None]
    if ends:
        database.executemany(
            """UPDATE actions SET ended_at = ?, took_s = ?, error = ?
            WHERE run = ? AND uuid = ? AND attempt = ? AND number = ?""",
            ends,
        )
    if settled:
        database.executemany(
            f"""INSERT INTO instances {_into(SettledInstance)}
            ON CONFLICT DO UPDATE SET attempt = excluded.attempt,
            because = excluded.because, settled_at = excluded.settled_at, kind = excluded.kind,
            outcome = excluded.outcome, left_as = excluded.left_as""",
            [_escaped(entry.instance) for entry in settled],
        )
        taken = [(entry.instance.settled_at, _plain(entry.instance.uuid)) for entry in settled]
        released = [each for each, entry in zip(taken, settled, strict=True) if not entry.is_held]
        database.executemany("UPDATE releases SET taken_at = ? WHERE uuid = ? AND taken_at IS NULL", released)
        database.executemany("UPDATE retries SET taken_at = ? WHERE uuid = ? AND taken_at IS NULL", taken)


def _into(row: type[NamedTuple]) -> str:
    """Return the columns of a row, and their places."""
    return f"({', '.join(row._fields)}) VALUES ({', '.join('?' for _ in row._fields)})"


def _escaped(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Write what is no text (half a surrogate) with escapes: it must not fail those that share its commit."""
    return tuple(_plain(value) if isinstance(value, str) else value for value in row)


def _plain(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def text_of(at: datetime) -> str:
    """Write a time."""
    return at.isoformat(timespec="microseconds")
