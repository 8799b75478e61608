"""The store in an SQLite file: how it is opened, and everything that only SQLite does.

A commit survives power loss (write-ahead log, ``synchronous=FULL``).  The file and what SQLite puts beside it are
private: 0600, in a directory that is 0700 where it is made here.
"""

import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio.to_thread
from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, inspect, select, update
from sqlalchemy.exc import DBAPIError

from bringup.daemon.errors import BringupError, Refused, SettingsError, Temporary
from bringup.daemon.storage.state_directory import FOR_A_PERSON, is_read_only, without_locks
from bringup.daemon.storage.store.schema import SCHEMA_VERSION, schema_version, tables
from bringup.daemon.storage.store.sql import Database, SqlStore
from bringup.drivers.files import no_database_file

T = TypeVar("T")

BUSY_TIMEOUT_S = 5.0
WRITES = "bringup_writes"
OLDER = 1
"""A schema version that only lacks tables."""
_PRIMARY = 0xFF
"""SQLite's extended result codes carry the primary one in their lowest byte."""

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
_NOT_OURS_TO_TOUCH = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}


class SqliteStore(SqlStore):
    """Records in one SQLite file.  Made by :meth:`open`; :func:`opened` closes it too."""

    @classmethod
    async def open(
        cls, path: Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S, must_exist: bool = False
    ) -> "SqliteStore":
        """Open the file, making it and its tables if it is not there, and prove that it can be written.

        :raises Temporary: another process keeps it locked for ``busy_timeout_s``, or its disk is full.
        :raises SettingsError: it cannot be opened for reading and writing, or is no file; or ``must_exist`` and it does
            not.
        :raises Refused: it is not a database, is damaged, is another program's or a newer version's.
        """
        return cls(await anyio.to_thread.run_sync(partial(open_database, path, busy_timeout_s, must_exist=must_exist)))


@asynccontextmanager
async def opened(
    path: Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S, must_exist: bool = False
) -> AsyncIterator[SqliteStore]:
    """Open a store and close it at the end.  Raises as :meth:`SqliteStore.open` does."""
    store = await SqliteStore.open(path, busy_timeout_s=busy_timeout_s, must_exist=must_exist)
    try:
        yield store
    finally:
        await store.close()


def open_database(path: Path, busy_timeout_s: float = BUSY_TIMEOUT_S, *, must_exist: bool = False) -> Database:
    """Open the file and see to its tables; raises as :meth:`SqliteStore.open` does.  Blocks."""
    if found := no_database_file(path):
        raise SettingsError([f"cannot open the store {path}: {found}; let store.url name a file"])
    try:
        _make_file(path, must_exist=must_exist)
        _check_ours(path, busy_timeout_s)
        path.chmod(0o600)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _cannot_open(path, error) from error
    except OSError as error:
        if error.errno not in FOR_A_PERSON:
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
            _see_to_tables(connection, path)
    except DBAPIError as error:
        engine.dispose()
        raise _cannot_open(path, error.orig) from error.orig
    except UnicodeDecodeError as error:
        engine.dispose()
        raise _cannot_open(path, error) from error
    except BringupError:
        engine.dispose()
        raise
    # One machine has the file: its clock is the database's.
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
    """Say what an error of SQLite means for its file; empty where its own text must do."""
    return _HINTS.get(_primary(error), "")


def _primary(error: BaseException | None) -> int:
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY


def _make_file(path: Path, *, must_exist: bool) -> None:
    if must_exist:
        path.stat()
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        # What SQLite puts beside the file gets the mode of the file.
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        # Never opened here: closing a descriptor would drop the locks that this process has on the file.
        return
    os.close(descriptor)


def _check_ours(path: Path, busy_timeout_s: float) -> None:
    """Look, before anything is changed in it or about it, whether the file may become or is a store."""
    with closing(sqlite3.connect(path, timeout=busy_timeout_s)) as connection:
        # A name may be damaged, too.
        connection.text_factory = bytes
        there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if there and schema_version.name.encode() not in there:
        raise Refused(f"cannot use the store {path}: it is a database of another program")


def _engine(path: Path, busy_timeout_s: float) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        # SQLAlchemy says when a transaction begins, not the module.
        connect_args={"isolation_level": None, "timeout": busy_timeout_s},
        # Values may be secrets of guests.
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, _record: Any) -> None:
        # A text that is no UTF-8 is its own row's trouble, and not that of all rows of the query.
        connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and writes then can fail with "locked" at once; one that says so waits.
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _see_to_tables(connection: Connection, path: Path) -> None:
    names = inspect(connection).get_table_names()
    # What is escaped in a name was no UTF-8.
    if any(not name.isascii() for name in names):
        raise Refused(f"cannot open the store {path}: {_HINTS[sqlite3.SQLITE_CORRUPT]}")
    if not names:
        tables.create_all(connection)
        connection.execute(insert(schema_version), {"version": SCHEMA_VERSION})
        return
    version = connection.execute(select(schema_version.c.version)).scalar()
    if version == OLDER:
        tables.create_all(connection)
        connection.execute(update(schema_version), {"version": SCHEMA_VERSION})
        return
    if version != SCHEMA_VERSION:
        raise Refused(
            f"cannot use the store {path}: its schema version is {version}, this version of bringup knows "
            f"{SCHEMA_VERSION}; run the version that wrote it"
        )


def _cannot_open(path: Path, error: BaseException | None) -> BringupError:
    hint = explain(error)
    message = f"cannot open the store {path}: {hint}" if hint else f"cannot open the store {path}"
    code = _primary(error)
    # The module's own errors, without a code of SQLite's: of a value, and of what SQLite says of a damaged name.
    if isinstance(error, UnicodeDecodeError) or "Could not decode" in str(error):
        return Refused(f"cannot open the store {path}: it is damaged; move it away and import anew")
    if code in _BLOCKED and (reason := without_locks(path.parent)):
        where = "a file on a file system of this host, or a PostgreSQL"
        return SettingsError([f"cannot open the store {path}: its file system keeps no locks ({reason}); name {where}"])
    if code in _CLOSED and is_read_only(path.parent):
        return Temporary(f"cannot open the store {path}: its file system is read-only; make it writable again")
    if code in _LATER:
        return Temporary(message)
    if code in _NOT_OURS_TO_TOUCH:
        return Refused(message)
    return SettingsError([message])
