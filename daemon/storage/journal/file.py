"""The file of the journal: its tables, the mark that outlives it, and its replacement wherever damage is met.

Only the daemon that holds the lock of this host sets a file aside, and starts a new one with the current run: any other
process that opens it (``bringup release``) reports that it is damaged.
"""

import errno
import sqlite3
import stat
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final, NoReturn, TypeVar
from uuid import uuid4

from bringup.daemon.errors import Refused
from bringup.daemon.logs import get_logger
from bringup.daemon.storage import sqlite_file
from bringup.daemon.storage.files import write_durably
from bringup.daemon.storage.journal.base import NewRun, Past
from bringup.daemon.storage.journal.queries import write_current_run
from bringup.daemon.storage.journal.schema import (
    ADDED,
    ADDED_COLUMNS,
    ADDED_TABLES,
    TABLES,
    VERSION,
    check_content,
)
from bringup.daemon.storage.sqlite_file import damage_error, is_damage, transaction, undecodable_is_damage
from bringup.daemon.storage.state_directory import without_locks
from bringup.drivers.files import database_file_problem, read_file

log = get_logger()

T = TypeVar("T")

MARK = "boot"
"""File with the id of the last boot on which a run started: a journal that is set aside is missed on that boot only."""
NEWEST: Final = 100
"""Versions are counted up one by one: no version of bringup has written one that is higher."""
UNKNOWN: Final = ""
"""Content of a mark that cannot be read."""


def connect(path: Path) -> sqlite3.Connection:
    """Open the file; create it and its tables if they are missing.

    :raises sqlite3.Error: it is damaged (:func:`bringup.daemon.storage.sqlite_file.is_damage`), or cannot be used
    now.
    :raises OSError: it cannot be used now.
    :raises Refused: a newer version wrote it.
    """
    if found := database_file_problem(path) or sqlite_file.not_permitted(path):
        raise damage_error(found)
    sqlite_file.create_file(path)
    # SQLite would wait, each time, for somebody to release it.
    if reason := without_locks(path.parent):
        raise OSError(errno.ENOLCK, f"its file system keeps no locks ({reason})")
    database = sqlite_file.connect(path)
    try:
        with undecodable_is_damage():
            _ensure_tables(database, path)
            check_content(database)
    except BaseException:
        database.close()
        raise
    return database


def _ensure_tables(database: sqlite3.Connection, path: Path) -> None:
    if _is_complete(database, path):
        return
    # Another process may be about to do the same: checked again under the lock.
    with transaction(database):
        if not _is_complete(database, path):
            _make_tables(database)


def _is_complete(database: sqlite3.Connection, path: Path) -> bool:
    """Check whether all tables and columns are there.

    :raises Refused: a newer version wrote it.
    """
    version = version_of(database)
    if version > VERSION:
        raise Refused(
            f"cannot use the journal {path}: its version is {version}, this version of bringup knows {VERSION}; "
            "run the version that wrote it; if there was never a newer one here, rename the file"
        )
    if version == 0 or not all(_has_table(database, table) for table in ADDED_TABLES):
        return False
    return not any(_missing_columns(database, table) for table in ADDED_COLUMNS)


def version_of(database: sqlite3.Connection) -> int:
    """Return the version of its tables; 0 if there are none yet.

    :raises sqlite3.DatabaseError: it is one that no version of bringup writes.
    """
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if not 0 <= version <= NEWEST:
        raise damage_error(f"its version is {version}, which no version of bringup writes")
    return int(version)


def _make_tables(database: sqlite3.Connection) -> None:
    """Create what is missing, in the transaction that has the lock."""
    version = version_of(database)
    if version == 0:
        if database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise damage_error("it is a database of another program")
        _execute_each(database, TABLES)
    _execute_each(database, ADDED)
    for table, columns in ADDED_COLUMNS.items():
        if not _has_table(database, table):
            raise damage_error(f"the table {table} is missing")
        for name in _missing_columns(database, table):
            database.execute(f"ALTER TABLE {table} ADD COLUMN {name} {columns[name]}")
    if version == 0:
        database.execute(f"PRAGMA user_version = {VERSION}")


def _execute_each(database: sqlite3.Connection, statements: str) -> None:
    # executescript would commit the transaction.
    for statement in filter(str.strip, statements.split(";")):
        database.execute(statement)


def _has_table(database: sqlite3.Connection, name: str) -> bool:
    return database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchone() is not None


def _missing_columns(database: sqlite3.Connection, table: str) -> list[str]:
    known = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
    return sorted(ADDED_COLUMNS[table].keys() - known)


class Mark:
    """File beside the journal that names the boot of the last run: it shows that a journal of this boot is missing."""

    def __init__(self, journal: Path) -> None:
        """Build it for the journal at this path."""
        self._path = journal.with_name(MARK)
        self._draft = journal.with_name(f".{MARK}")

    def lost(self, boot_id: str, *, is_new: bool) -> bool:
        """Check whether a new journal may lack what was done on this boot.

        It may if the mark is there and names this boot, or cannot be read.
        """
        return is_new and self._read() in (boot_id, UNKNOWN)

    def write(self, boot_id: str) -> None:
        """Write the id of this boot.  Raises OSError."""
        if self._read() != boot_id:
            for place in (self._path, self._draft):
                _make_room(place)
            write_durably(self._path, f"{boot_id}\n".encode(), draft=self._draft)

    def _read(self) -> str | None:
        """Return the id in it; None if there is none."""
        try:
            text = read_file(self._path).decode("ascii").strip()
        except FileNotFoundError:
            return UNKNOWN if self._path.is_symlink() else None
        except (OSError, UnicodeDecodeError):
            return UNKNOWN
        return text if text.isprintable() else UNKNOWN


def _make_room(place: Path) -> None:
    """Rename what is in the place of a file and is not one.  Raises OSError."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(place.lstat().st_mode):
            place.rename(place.with_name(f"{place.name}.corrupt-{uuid4()}"))


class JournalFile:
    """Open file of the journal.  Its methods block; one thread at a time uses it."""

    def __init__(self, path: Path, now: Callable[[], datetime]) -> None:
        """Store the path; nothing is opened yet."""
        self.path = path
        self.is_ours = False
        """A damaged file is set aside by this process."""
        self._now = now
        self._database: sqlite3.Connection | None = None
        self._begun: tuple[NewRun, Past, int] | None = None

    def database(self) -> sqlite3.Connection:
        """Return the connection; open it if necessary.  Raises sqlite3.Error or OSError."""
        if self._database is None:
            self.open()
        if self._database is None:
            self._never()
        return self._database

    def open(self) -> None:
        """Open the file; a damaged one is set aside.  Raises sqlite3.Error or OSError."""
        try:
            self._database = connect(self.path)
        except sqlite3.Error as error:
            if not self._is_damage(error):
                raise
            self._replace(error)
        if self._begun is not None:
            self._continue_run(*self._begun)

    def store_run(self, run: NewRun, past: Past, number: int) -> None:
        """Store the current run: it is written into a file that replaces this one."""
        self._begun = run, past, number

    def run(self, work: Callable[[], T]) -> T:
        """Do ``work``; if the file is damaged, replace it and do it again.  Raises what the work raises."""
        try:
            with undecodable_is_damage():
                return work()
        except sqlite3.Error as error:
            if not self._is_damage(error) or self._is_without_run(error):
                raise
            self._replace(error)
        if self._begun is not None:
            self._continue_run(*self._begun)
        return work()

    def close(self) -> None:
        """Close it; repeating it is harmless."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def _is_damage(self, error: sqlite3.Error) -> bool:
        """Check whether an error is a reason for this process to set the file aside."""
        if not self.is_ours:
            return False
        is_closed = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY
        return is_damage(error) or (is_closed and sqlite_file.may_write(self.path))

    def _is_without_run(self, error: sqlite3.Error) -> bool:
        """Check whether a row refers to a run that was never written: that is not damage."""
        code = getattr(error, "sqlite_errorcode", 0)
        return code == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY and self._begun is None

    def _replace(self, error: sqlite3.Error) -> None:
        self.close()
        kept_as = sqlite_file.set_aside(self.path, self._now())
        log.error("journal.set_aside", path=str(self.path), kept_as=str(kept_as), error=str(error))
        self._database = connect(self.path)

    def _continue_run(self, run: NewRun, past: Past, number: int) -> None:
        with transaction(self.database()) as database:
            lost = Mark(self.path).lost(run.boot_id, is_new=True)
            write_current_run(database, run, past, number, memory_lost=lost)

    def _never(self) -> NoReturn:
        raise sqlite3.OperationalError("it is not open")
