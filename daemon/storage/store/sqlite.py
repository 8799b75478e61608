"""The store in an SQLite file: everything that only SQLite does."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from bringup.daemon.errors import BringupError, Refused, SettingsError, Temporary
from bringup.daemon.storage import sqlite_file
from bringup.daemon.storage.sqlite_file import BUSY_TIMEOUT_S, primary_code
from bringup.daemon.storage.state_directory import OPERATOR_ERRORS, is_read_only, without_locks
from bringup.daemon.storage.store.schema import ensure_tables, schema_version
from bringup.daemon.storage.store.sql import Database
from bringup.drivers.files import database_file_problem

T = TypeVar("T")

WRITES = "bringup_writes"

_HINTS = {
    sqlite3.SQLITE_BUSY: "another process keeps it locked",
    sqlite3.SQLITE_LOCKED: "another process keeps it locked",
    sqlite3.SQLITE_FULL: "its disk is full",
    sqlite3.SQLITE_IOERR: "its disk is full or failing, or a limit on the size of files was reached",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_PERM: "it is not readable and writable for this user",
    sqlite3.SQLITE_CANTOPEN: "it, or the directory that it is in, is not readable and writable for this user",
    sqlite3.SQLITE_NOTADB: "it is not an SQLite database",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
}
_LATER = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
_BLOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PROTOCOL}
_CLOSED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}


def open_database(path: Path, busy_timeout_s: float = BUSY_TIMEOUT_S, *, must_exist: bool = False) -> Database:
    """Open the file, create it and its tables if they are missing, and check that it can be written.  Blocks.

    :raises Temporary: another process keeps it locked for ``busy_timeout_s``, or its disk is full.
    :raises SettingsError: it cannot be opened for reading and writing, or is no file; or ``must_exist`` and it does
        not.
    :raises Refused: it is not a database, is damaged, is another program's or a newer version's.
    """
    if found := database_file_problem(path):
        raise SettingsError([f"cannot open the store {path}: {found}; let store.url name a file"])
    try:
        if must_exist:
            path.stat()
        else:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            sqlite_file.create_file(path)
        _check_content(path, busy_timeout_s)
        path.chmod(0o600)
    except sqlite3.Error as error:
        raise _cannot_open(path, error) from error
    except OSError as error:
        if error.errno not in OPERATOR_ERRORS:
            raise Temporary(f"cannot open the store {path}: {error.strerror}") from error
        hint = (
            "bringup import makes it"
            if isinstance(error, FileNotFoundError)
            else "this user must be able to read and write it and its directory"
        )
        raise SettingsError([f"cannot open the store {path}: {hint}"]) from error
    engine = _engine(path, busy_timeout_s)
    writer = engine.execution_options(**{WRITES: True})
    try:
        with writer.begin() as connection:
            ensure_tables(connection, str(path))
    except DBAPIError as error:
        engine.dispose()
        raise _cannot_open(path, error.orig) from error.orig
    except BringupError:
        engine.dispose()
        raise
    # One machine uses the file: its clock is the database's.
    return Database(
        name=str(path),
        engine=engine,
        read=partial(_transact, engine),
        write=partial(_transact, writer),
        explain=explain,
        now=lambda _connection: time.time(),
    )


def _transact(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.begin() as connection:
        return work(connection)


def explain(error: BaseException | None) -> str:
    """Return what an error of SQLite means for its file; empty if only its own text can tell."""
    return _HINTS.get(primary_code(error), "")


def _check_content(path: Path, busy_timeout_s: float) -> None:
    """Check, before anything is changed in the file or about it, whether it may become or is a store."""
    with closing(sqlite3.connect(path, timeout=busy_timeout_s)) as connection, sqlite_file.undecodable_is_damage():
        # A name may be damaged, too.
        connection.text_factory = bytes
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if names and schema_version.name.encode() not in names:
        raise Refused(f"cannot use the store {path}: it is a database of another program")
    if not all(name.isascii() for name in names):
        raise sqlite_file.damage_error("the name of a table is no text")


def _engine(path: Path, busy_timeout_s: float) -> Engine:
    # A text that is not UTF-8 must fail its own row, not all rows of the query.
    text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        creator=partial(sqlite_file.connect, path, busy_timeout_s=busy_timeout_s, text_factory=text_factory),
        # Values may be secrets of guests.
        hide_parameters=True,
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and writes then can fail with "locked" at once; BEGIN IMMEDIATE waits.
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _cannot_open(path: Path, error: BaseException | None) -> BringupError:
    hint = explain(error)
    message = f"cannot open the store {path}: {hint}" if hint else f"cannot open the store {path}"
    code = primary_code(error)
    if code in _BLOCKED and (reason := without_locks(path.parent)):
        where = "a file on a file system of this host, or a PostgreSQL"
        return SettingsError([f"cannot open the store {path}: its file system keeps no locks ({reason}); name {where}"])
    if code in _CLOSED and is_read_only(path.parent):
        return Temporary(f"cannot open the store {path}: its file system is read-only; make it writable again")
    if code in _LATER:
        return Temporary(message)
    if code == sqlite3.SQLITE_CORRUPT:
        return Refused(f"{message}; move it away and import anew")
    if code == sqlite3.SQLITE_NOTADB:
        return Refused(message)
    return SettingsError([message])
