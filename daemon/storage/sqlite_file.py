"""File layer of SQLite: creation, opening, transactions, reading beside a writer, and recognition of damage.

The store and the journal use it; which tables a file has is up to them.  A commit survives power loss (write-ahead log,
``synchronous=FULL``).  The file, and what SQLite puts beside it, is private (0600).
"""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from bringup.daemon.storage.files import sync_directory
from bringup.daemon.storage.state_directory import is_read_only, without_locks
from bringup.drivers.files import OF_A_DATABASE

BUSY_TIMEOUT_S: Final = 5.0
LOCKED_WAIT_S: Final = 0.05
"""The longest pause before a file is opened again that another connection has locked."""
PRAGMAS: Final = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")

_DAMAGE: Final = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_FORMAT,
        sqlite3.SQLITE_MISMATCH,
        # No statement of ours is wrong by itself: a table is missing.
        sqlite3.SQLITE_ERROR,
    }
)
_BROKEN_LINKS: Final = frozenset(
    {
        sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY,
        sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
        sqlite3.SQLITE_CONSTRAINT_ROWID,
        # An index that has lost a row, or an index or a trigger that is not ours.
        sqlite3.SQLITE_CONSTRAINT_UNIQUE,
        sqlite3.SQLITE_CONSTRAINT_TRIGGER,
        sqlite3.SQLITE_CONSTRAINT_CHECK,
    }
)
"""Every row is written after the one that it refers to, and once: a row is missing."""
_LOST: Final = sqlite3.SQLITE_IOERR_CORRUPTFS
"""A part of the file cannot be read (EIO): a sector that the disk has lost.  No other error of reading says so."""
UNDECODABLE: Final = (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, OverflowError)
"""Errors that reading a row raises if it does not hold what was written."""
_NO_TEXT: Final = "Could not decode to UTF-8"
"""First words of the error that Python's module raises for a text that is not UTF-8; it has no code."""
_MADE_BY_ANOTHER: Final = ("duplicate column name", "already exists")
"""SQLite's words where another process has created the same table or column meanwhile."""
_PRIMARY: Final = 0xFF
"""SQLite's extended result codes carry the primary one in their lowest byte."""
_HEADER: Final = 100
_WRITE_VERSION: Final = 18
_KNOWN_WRITE_VERSIONS: Final = (0, 1, 2)
"""https://www.sqlite.org/fileformat2.html#file_format_version_numbers"""


def create_file(path: Path) -> None:
    """Create an empty file where there is none.  Raises OSError.

    A command of root creates it for the owner of the folder: the daemon could not use it otherwise.
    """
    # Only ever a new file: closing a descriptor of one that is open drops the locks that this process has on it.
    with suppress(FileExistsError):
        # What SQLite puts beside the file gets mode and owner of the file.
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            if os.geteuid() == 0:
                folder = path.parent.stat()
                os.fchown(descriptor, folder.st_uid, folder.st_gid)
        finally:
            os.close(descriptor)
        sync_directory(path.parent)


def connect(
    path: Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S, text_factory: Callable[[bytes], Any] = str
) -> sqlite3.Connection:
    """Open a file for writing; transactions are begun by statement, any thread may use it.  Raises sqlite3.Error."""
    database = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
    # Two that begin the log of a new file at once would wait for each other: SQLite refuses one of them at once.
    retrying = Retrying(
        retry=retry_if_exception(is_locked),
        stop=stop_after_delay(busy_timeout_s),
        wait=wait_random(0, LOCKED_WAIT_S),
        reraise=True,
    )
    try:
        database.text_factory = text_factory
        with undecodable_is_damage():
            for pragma in PRAGMAS:
                retrying(database.execute, f"PRAGMA {pragma}").fetchall()
    except BaseException:
        database.close()
        raise
    return database


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Run one transaction that writes from its start: only BEGIN waits for the lock."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield database
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


@contextmanager
def open_read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file for reading, or a copy if SQLite cannot lock or repair it in its place.  Raises sqlite3.Error."""
    with ExitStack() as held:
        database = held.enter_context(closing(_connect_uri(path, "mode=ro")))
        try:
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError as error:
            # A process that was killed while it created the file left changes that a reader may not undo.
            is_unfinished = error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK
            if is_damage(error) or not (is_unfinished or without_locks(path.parent) or is_read_only(path.parent)):
                raise
            database = held.enter_context(_open_copy(path))
        yield database


@contextmanager
def _open_copy(path: Path) -> Iterator[sqlite3.Connection]:
    with tempfile.TemporaryDirectory(prefix="bringup-journal-") as directory:
        copy = Path(directory) / path.name
        for suffix in ("", "-wal", "-journal"):
            with suppress(FileNotFoundError):
                shutil.copyfile(path.with_name(path.name + suffix), copy.with_name(copy.name + suffix))
        # Nobody else has it.
        with closing(_connect_uri(copy, "nolock=1")) as database:
            database.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
            yield database


def _connect_uri(path: Path, options: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True, timeout=BUSY_TIMEOUT_S)


def set_aside(path: Path, at: datetime) -> Path:
    """Rename a damaged file, and what SQLite put beside it; return its new name.  Raises OSError."""
    kept_as = path.with_name(f"{path.name}.corrupt-{at:%Y%m%dT%H%M%S.%fZ}")
    for suffix in OF_A_DATABASE:
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(kept_as.with_name(kept_as.name + suffix))
    sync_directory(path.parent)
    return kept_as


def primary_code(error: BaseException | None) -> int:
    """Return SQLite's primary result code of an error; 0 if it has none."""
    if isinstance(error, UnicodeDecodeError) or str(error).startswith(_NO_TEXT):
        return sqlite3.SQLITE_CORRUPT
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY


def is_locked(error: BaseException) -> bool:
    """Check whether an error means that another connection has locked the file."""
    return isinstance(error, sqlite3.Error) and primary_code(error) == sqlite3.SQLITE_BUSY


def is_damage(error: BaseException) -> bool:
    """Check whether an error means that the file is damaged, and not that it cannot be used now."""
    if isinstance(error, UNDECODABLE):
        return True
    if not isinstance(error, sqlite3.Error):
        return False
    code = getattr(error, "sqlite_errorcode", 0)
    if code == sqlite3.SQLITE_ERROR and any(words in str(error) for words in _MADE_BY_ANOTHER):
        return False
    return primary_code(error) in _DAMAGE or code in (*_BROKEN_LINKS, _LOST)


def damage_error(text: str) -> sqlite3.DatabaseError:
    """Build an error for which :func:`is_damage` is true."""
    error = sqlite3.DatabaseError(text)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


@contextmanager
def undecodable_is_damage() -> Iterator[None]:
    """Convert the error of a damaged name, which is not UTF-8: Python's module has none of its own for that.

    :raises sqlite3.DatabaseError: a name is damaged.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise damage_error("a name in it is not text") from error


def unknown_write_version(path: Path) -> str | None:
    """Describe a header that makes SQLite read the file and never write it, on any boot; None if there is no such.

    Only for a process that has no connection to the file: closing a descriptor drops all locks that it has there.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
    except OSError:
        # Whoever uses it finds out whether it can be used.
        return None
    if len(header) < _HEADER or header[_WRITE_VERSION] in _KNOWN_WRITE_VERSIONS:
        return None
    return f"it can be read and never written: the write version in its header is {header[_WRITE_VERSION]}"


def may_write(path: Path) -> bool:
    """Check whether this user may write the file: if SQLite cannot, its content is the cause."""
    return os.access(path, os.R_OK | os.W_OK, effective_ids=True) and not is_read_only(path)


def not_permitted(path: Path) -> str | None:
    """Describe a file that this user may not use on any boot; None if it may, or there is no file."""
    is_there = os.access(path, os.F_OK, effective_ids=True)
    if not is_there or os.access(path, os.R_OK | os.W_OK, effective_ids=True) or is_read_only(path):
        return None
    return f"{path} is a file that this user may not read and write"
