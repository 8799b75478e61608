"""When a journal is damaged: what an error says of the file, and a look through all of it.

A page may be lost, overwritten, or be another page's; what SQLite does not notice by itself is found by reading what
the rows hold.  Whatever finds it, the file is set aside: no part of it is believed.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

DAMAGE: Final = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_FORMAT,
        sqlite3.SQLITE_MISMATCH,
        # No statement of ours is wrong by itself: a table is missing.
        sqlite3.SQLITE_ERROR,
    }
)
BROKEN_LINKS: Final = frozenset(
    {
        sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY,
        sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
        sqlite3.SQLITE_CONSTRAINT_ROWID,
        # An index that has lost a row, or an index or a trigger that is none of ours.
        sqlite3.SQLITE_CONSTRAINT_UNIQUE,
        sqlite3.SQLITE_CONSTRAINT_TRIGGER,
        sqlite3.SQLITE_CONSTRAINT_CHECK,
    }
)
"""Every row is written after the one that it refers to, and once: what was there is not there any more."""
LOST: Final = sqlite3.SQLITE_IOERR_CORRUPTFS
"""A part of the file cannot be read (EIO): a sector that the disk has lost.  No other error of reading says so."""
UNDECODABLE: Final = (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, OverflowError)
"""What reading a row raises that holds something else than was written."""
NO_TEXT: Final = "Could not decode to UTF-8"
"""How Python's module begins what it says of a text that is none; it gives no code."""
MADE_BY_ANOTHER: Final = ("duplicate column name", "already exists")
"""What SQLite says where another process has made the same table or column since."""
_PRIMARY: Final = 0xFF


def is_damage(error: BaseException) -> bool:
    """Tell whether an error says that the file is damaged, and not that it cannot be used now."""
    if isinstance(error, UNDECODABLE):
        return True
    if not isinstance(error, sqlite3.Error):
        return False
    code = getattr(error, "sqlite_errorcode", 0)
    if code == sqlite3.SQLITE_ERROR and any(words in str(error) for words in MADE_BY_ANOTHER):
        return False
    return code & _PRIMARY in DAMAGE or code in (*BROKEN_LINKS, LOST) or str(error).startswith(NO_TEXT)


def damaged(text: str) -> sqlite3.DatabaseError:
    """Make an error that says that the file is damaged."""
    error = sqlite3.DatabaseError(text)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


@contextmanager
def decoding() -> Iterator[None]:
    """Take a row that holds something else than was written for damage.

    :raises sqlite3.DatabaseError: one does.
    """
    try:
        yield
    except UNDECODABLE as error:
        raise damaged("a row does not hold what was written") from error


@contextmanager
def in_words() -> Iterator[None]:
    """Take for damage what SQLite says of a damaged name: it is no UTF-8, and Python's module has no error for that.

    :raises sqlite3.DatabaseError: it is.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise damaged("what SQLite says of it is no text") from error


def look_through(database: sqlite3.Connection) -> None:
    """Look for damage.

    :raises sqlite3.DatabaseError: there is some.
    """
    # Not quick_check, which takes the index of another table for one of this: twice as long, 0.15 s for 43 MiB.
    (found,) = database.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise damaged(str(found))
    if database.execute("PRAGMA foreign_key_check").fetchone() is not None:
        raise damaged("a row refers to one that is not there")
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    with decoding():
        for table, columns in _SMALL.items():
            if table in _ADDED and table not in tables:
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


_ADDED: Final = frozenset({"retries"})
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
    "host_steps": {"run": _number, "attempt": _number, "name": _text, "at": _time},
    "kept_disks": {"uuid": _text, "place": _json, "kept_at": _time, "until": _time},
    "releases": _ASKED,
    "retries": _ASKED,
}
"""What every row of the tables holds that have few rows; those with many are read when they are needed."""
