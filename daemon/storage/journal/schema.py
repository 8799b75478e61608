"""The tables of the journal, and the check of what their rows hold.

``boots`` and ``runs`` are counted in the order in which they were begun: a clock may jump, a counter does not.  Times
are UTC, ISO 8601, to the microsecond.

A page may be lost, overwritten, or be another page's: damage that SQLite does not notice is found by reading the rows.
Whatever finds it, the file is set aside: no part of it is believed
(:func:`bringup.daemon.storage.sqlite_file.is_damage`).
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from bringup.daemon.storage.sqlite_file import UNDECODABLE, damage_error

VERSION = 1

TABLES = """
CREATE TABLE boots (
  number INTEGER PRIMARY KEY AUTOINCREMENT, boot_id TEXT NOT NULL UNIQUE, first_seen TEXT NOT NULL,
  last_seen TEXT NOT NULL, down_s REAL, memory_lost INTEGER NOT NULL DEFAULT 0);
CREATE TABLE runs (
  number INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL UNIQUE, boot INTEGER NOT NULL REFERENCES boots,
  host TEXT NOT NULL, began_at TEXT NOT NULL, attempt INTEGER NOT NULL, state TEXT NOT NULL, ended_at TEXT,
  took_s REAL, error TEXT, counts TEXT, delivery TEXT);
CREATE TABLE instances (
  run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, uuid TEXT NOT NULL, attempt INTEGER NOT NULL,
  because TEXT NOT NULL, began_at TEXT, settled_at TEXT, kind TEXT, outcome TEXT, left_as TEXT, was TEXT,
  PRIMARY KEY (run, uuid)) WITHOUT ROWID;
CREATE INDEX instances_uuid ON instances (uuid);
CREATE TABLE actions (
  run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, uuid TEXT NOT NULL, attempt INTEGER NOT NULL,
  number INTEGER NOT NULL, rule TEXT NOT NULL, verb TEXT NOT NULL, detail TEXT, began_at TEXT NOT NULL, ended_at TEXT,
  took_s REAL, error TEXT, PRIMARY KEY (run, uuid, attempt, number)) WITHOUT ROWID;
CREATE TABLE kept_disks (
  uuid TEXT PRIMARY KEY, place TEXT NOT NULL, kept_at TEXT NOT NULL, until TEXT NOT NULL);
CREATE TABLE releases (
  number INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL, at TEXT NOT NULL, after_run INTEGER NOT NULL,
  taken_at TEXT);
"""

ADDED = """
CREATE TABLE IF NOT EXISTS retries (
  number INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL, at TEXT NOT NULL, after_run INTEGER NOT NULL,
  taken_at TEXT);
CREATE TABLE IF NOT EXISTS ready (
  run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, uuid TEXT NOT NULL, readiness TEXT NOT NULL,
  PRIMARY KEY (run, uuid)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS verdicts (
  run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, uuid TEXT NOT NULL, word TEXT NOT NULL, why TEXT NOT NULL,
  PRIMARY KEY (run, uuid)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pauses (
  number INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, until TEXT NOT NULL, ended_at TEXT);
"""
"""Tables that a journal of an earlier version lacks; an earlier version can use one that has them."""
ADDED_COLUMNS = {"instances": {"was": "TEXT"}}

RUNNING, STOPPED, ENDED = "running", "stopped", "ended"
"""States of a run: in progress or killed; stopped with unfinished instances; ended."""


@contextmanager
def decoding() -> Iterator[None]:
    """Convert the error of a row that does not hold what was written to damage.

    :raises sqlite3.DatabaseError: one does.
    """
    try:
        yield
    except UNDECODABLE as error:
        raise damage_error("a row does not hold what was written") from error


def check_content(database: sqlite3.Connection) -> None:
    """Check all of the file for damage.

    :raises sqlite3.DatabaseError: it is damaged.
    """
    # Not quick_check, which accepts the index of another table.  It takes twice as long: 0.15 s for 43 MiB.
    (found,) = database.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise damage_error(str(found))
    if database.execute("PRAGMA foreign_key_check").fetchone() is not None:
        raise damage_error("a row refers to one that is not there")
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    with decoding():
        for table, columns in _SMALL.items():
            if table in ADDED_TABLES and table not in tables:
                continue
            names = ", ".join(columns)
            for row in database.execute(f"SELECT {names} FROM {table}"):  # noqa: S608 - our own names
                for reads, value in zip(columns.values(), row, strict=True):
                    reads(value)


def _text(value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise TypeError("no text")


def _number(value: Any) -> None:
    if not isinstance(value, int) or value < 0:
        raise TypeError("no number")


def _time(value: Any) -> None:
    datetime.fromisoformat(value)


def _json(value: Any) -> None:
    json.loads(value)


def _perhaps(reads: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda value: None if value is None else reads(value)


ADDED_TABLES: Final = frozenset({"retries", "ready", "verdicts", "pauses"})
"""A journal of an earlier version has none."""
_ASKED = {"number": _number, "uuid": _text, "at": _time, "after_run": _number, "taken_at": _perhaps(_time)}
_SMALL: Final[Mapping[str, Mapping[str, Callable[[Any], None]]]] = {
    "boots": {"number": _number, "boot_id": _text, "first_seen": _time, "last_seen": _time, "memory_lost": _number},
    "runs": {
        "number": _number,
        "run_id": _text,
        "boot": _number,
        "host": _text,
        "began_at": _time,
        "attempt": _number,
        "state": _text,
        "ended_at": _perhaps(_time),
        "counts": _perhaps(_json),
    },
    "kept_disks": {"uuid": _text, "place": _json, "kept_at": _time, "until": _time},
    "releases": _ASKED,
    "retries": _ASKED,
    "pauses": {"number": _number, "at": _time, "until": _time, "ended_at": _perhaps(_time)},
}
"""Columns of the tables that have few rows; those with many are checked when they are read."""
