"""The file of the journal: opened, checked, set aside; and a mark beside it that outlives it."""

import errno
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

from bringup.daemon.errors import Refused
from bringup.daemon.storage.files import sync_directory, write_durably
from bringup.daemon.storage.journal.damage import damaged, in_words, look_through
from bringup.daemon.storage.journal.schema import ADDED, ADDED_COLUMNS, TABLES, VERSION
from bringup.daemon.storage.state_directory import is_read_only, without_locks
from bringup.drivers.files import OF_A_DATABASE, no_database_file, read_file

BUSY_TIMEOUT_S = 5.0
MARK = "boot"
"""Holds the id of the last boot on which a run began: a journal that is set aside is missed on that boot only."""
HEADER: Final = 100
WRITE_VERSION: Final = 18
KNOWN_WRITE_VERSIONS: Final = (0, 1, 2)
"""https://www.sqlite.org/fileformat2.html#file_format_version_numbers"""
NEWEST: Final = 100
"""Versions are counted up one by one: no version of bringup has written one that is higher."""
UNKNOWN: Final = ""
"""What a mark holds that cannot be read."""


def connect(path: Path, *, check: bool = True) -> sqlite3.Connection:
    """Open the file, making it and its tables where they are missing.

    :raises sqlite3.Error: it is damaged (:func:`bringup.daemon.storage.journal.damage.is_damage`), or cannot be used
    now.
    :raises OSError: it cannot be used now.
    :raises Refused: a newer version wrote it.
    """
    if found := no_database_file(path) or not_ours(path):
        raise damaged(found)
    with suppress(FileExistsError):
        # What SQLite puts beside the file gets the mode of the file.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        sync_directory(path.parent)
    # SQLite would wait, each time, for somebody to let go of it.
    if reason := without_locks(path.parent):
        raise OSError(errno.ENOLCK, f"its file system keeps no locks ({reason})")
    database = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        with in_words():
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                database.execute(f"PRAGMA {pragma}").fetchall()
            _see_to_tables(database, path)
            if check:
                look_through(database)
    except BaseException:
        database.close()
        raise
    return database


def odd_header(path: Path) -> str | None:
    """Say what in the header of the file is none of ours though SQLite takes it; None: nothing.

    A file whose "write version" SQLite does not know is one that it reads and never writes, on no boot.  Only a process
    that has no connection to the file may look: closing a descriptor lets go of all locks that it has there.
    """
    try:
        with path.open("rb") as file:
            header = file.read(HEADER)
    except OSError:
        # Whether it can be used is said by who uses it.
        return None
    if len(header) < HEADER or header[WRITE_VERSION] in KNOWN_WRITE_VERSIONS:
        return None
    return f"it can be read and never written: the write version in its header is {header[WRITE_VERSION]}"


def may_be_written(path: Path) -> bool:
    """Tell whether this user may write the file where it is: who then cannot is held up by what is in it."""
    return os.access(path, os.R_OK | os.W_OK, effective_ids=True) and not is_read_only(path)


def not_ours(path: Path) -> str | None:
    """Say that this user may not use the file, on no boot; None: it may, or there is none."""
    is_there = os.access(path, os.F_OK, effective_ids=True)
    if not is_there or os.access(path, os.R_OK | os.W_OK, effective_ids=True) or is_read_only(path):
        return None
    return f"{path} is a file that this user may not read and write"


def _see_to_tables(database: sqlite3.Connection, path: Path) -> None:
    if _is_complete(database, path):
        return
    # Another process may be about to do the same: looked at again under the lock.
    with transaction(database):
        if not _is_complete(database, path):
            _make_tables(database)


def _is_complete(database: sqlite3.Connection, path: Path) -> bool:
    """Tell whether all tables and columns are there.

    :raises Refused: a newer version wrote it.
    """
    version = version_of(database)
    if version > VERSION:
        raise Refused(
            f"cannot use the journal {path}: its version is {version}, this version of bringup knows {VERSION}; "
            "run the version that wrote it; if there was never a newer one here, rename the file"
        )
    if version == 0 or not _has_table(database, "retries"):
        return False
    return not any(_missing_columns(database, table) for table in ADDED_COLUMNS)


def version_of(database: sqlite3.Connection) -> int:
    """Give the version of its tables; 0 where there are none yet.

    :raises sqlite3.DatabaseError: it is one that no version of bringup writes.
    """
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if not 0 <= version <= NEWEST:
        raise damaged(f"its version is {version}, which no version of bringup writes")
    return int(version)


def _make_tables(database: sqlite3.Connection) -> None:
    """Make what is missing, in the transaction that has the lock."""
    version = version_of(database)
    if version == 0:
        if database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise damaged("it is a database of another program")
        _execute_each(database, TABLES)
    _execute_each(database, ADDED)
    for table, columns in ADDED_COLUMNS.items():
        if not _has_table(database, table):
            raise damaged(f"the table {table} is missing")
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


def set_aside(path: Path, at: datetime) -> Path:
    """Rename a damaged file, and what SQLite put beside it; give its new name.  Raises OSError."""
    kept_as = path.with_name(f"{path.name}.corrupt-{at:%Y%m%dT%H%M%S.%fZ}")
    for suffix in OF_A_DATABASE:
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(kept_as.with_name(kept_as.name + suffix))
    sync_directory(path.parent)
    return kept_as


class Mark:
    """On which boot a run was begun last, and whether what was done on it is forgotten."""

    def __init__(self, journal: Path) -> None:
        """Take the path of the journal."""
        self._path = journal.with_name(MARK)
        self._draft = journal.with_name(f".{MARK}")

    def lost(self, boot_id: str, *, is_new: bool) -> bool:
        """Tell whether something may have been done on this boot of which a new journal does not know.

        So it may where the mark is there and does not tell the boot.
        """
        return is_new and self._read() in (boot_id, UNKNOWN)

    def write(self, boot_id: str) -> None:
        """Write the id of this boot.  Raises OSError."""
        if self._read() != boot_id:
            for place in (self._path, self._draft):
                _make_room(place)
            write_durably(self._path, f"{boot_id}\n".encode(), draft=self._draft)

    def _read(self) -> str | None:
        """Give the id in it, None where there is none."""
        try:
            text = read_file(self._path).decode("ascii").strip()
        except FileNotFoundError:
            return UNKNOWN if self._path.is_symlink() else None
        except (OSError, UnicodeDecodeError):
            return UNKNOWN
        return text if text.isprintable() else UNKNOWN


def _make_room(place: Path) -> None:
    """Rename what is no file, and in the place of one.  Raises OSError."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(place.lstat().st_mode):
            place.rename(place.with_name(f"{place.name}.corrupt-{uuid4()}"))


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Make one transaction that writes from its start: the lock is waited for there, or not at all."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield database
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
