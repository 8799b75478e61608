"""What is written of an instance, as rows: an action that is about to be done, an outcome."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Begun:
    """An action that is about to be done."""

    instance: tuple[Any, ...]
    action: tuple[Any, ...]
    end: tuple[Any, ...] | None


@dataclass(frozen=True, slots=True)
class SettledEntry:
    """An outcome."""

    uuid: str
    instance: tuple[Any, ...]
    end: tuple[Any, ...] | None
    at: str
    is_held: bool


Entry = Begun | SettledEntry


def write_entries(database: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Write them, in the transaction of the caller."""
    entries = [_storable(entry) for entry in entries]
    begun = [entry for entry in entries if isinstance(entry, Begun)]
    settled = [entry for entry in entries if isinstance(entry, SettledEntry)]
    # Begun first: the end of an action that was begun in this round finds it.
    if begun:
        database.executemany(
            """INSERT INTO instances (run, uuid, attempt, because, began_at, was) VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET attempt = excluded.attempt, because = excluded.because, kind = NULL,
            was = coalesce(excluded.was, was)""",
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
        database.executemany(
            "UPDATE retries SET taken_at = ? WHERE uuid = ? AND taken_at IS NULL",
            [(entry.at, entry.uuid) for entry in settled],
        )


def _storable(entry: Entry) -> Entry:
    """Write what is no text (half a surrogate) with escapes: it must not fail those that share its commit."""
    if isinstance(entry, Begun):
        return Begun(_escaped(entry.instance), _escaped(entry.action), entry.end and _escaped(entry.end))
    instance, end = _escaped(entry.instance), entry.end and _escaped(entry.end)
    return replace(entry, uuid=_plain(entry.uuid), instance=instance, end=end)


def _escaped(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_plain(value) if isinstance(value, str) else value for value in row)


def _plain(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def text_of(at: datetime) -> str:
    """Write a time."""
    return at.isoformat(timespec="microseconds")
