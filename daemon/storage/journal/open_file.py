"""The open file of a journal, which is set aside wherever damage is met, and begun anew with the run that is under way.

Only the daemon that holds the lock of this host sets a file aside: whoever else has it open (``bringup release``) says
that it is damaged.
"""

import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NoReturn, TypeVar

from bringup.daemon.logs import get_logger
from bringup.daemon.storage.journal.base import NewRun, Past
from bringup.daemon.storage.journal.begin_run import begin_again
from bringup.daemon.storage.journal.damage import in_words, is_damage
from bringup.daemon.storage.journal.file import Mark, connect, may_be_written, set_aside, transaction

log = get_logger()

T = TypeVar("T")


class JournalFile:
    """The file; all of its methods block, and one thread at a time uses it."""

    def __init__(self, path: Path, now: Callable[[], datetime]) -> None:
        """Open nothing yet."""
        self.path = path
        self.is_ours = False
        """Damage that is met sets the file aside."""
        self._now = now
        self._database: sqlite3.Connection | None = None
        self._begun: tuple[NewRun, Past, int] | None = None

    def database(self) -> sqlite3.Connection:
        """Give the connection, opened if need be.  Raises sqlite3.Error or OSError."""
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
            self._go_on(*self._begun)

    def begun(self, run: NewRun, past: Past, number: int) -> None:
        """Take note of the run that is under way: a file that takes this one's place has it too."""
        self._begun = run, past, number

    def mended(self, work: Callable[[], T]) -> T:
        """Do ``work``; where it meets damage, again on a file that is new.  Raises what the work does."""
        try:
            with in_words():
                return work()
        except sqlite3.Error as error:
            if not self._is_damage(error) or self._is_without_run(error):
                raise
            self._replace(error)
        if self._begun is not None:
            self._go_on(*self._begun)
        return work()

    def close(self) -> None:
        """Close it; again is fine."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def _is_damage(self, error: sqlite3.Error) -> bool:
        """Tell whether an error is one for which the file is set aside, by whom it may be."""
        if not self.is_ours:
            return False
        is_closed = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY
        return is_damage(error) or (is_closed and may_be_written(self.path))

    def _is_without_run(self, error: sqlite3.Error) -> bool:
        """Tell whether a row refers to a run that was never written: that is no damage."""
        code = getattr(error, "sqlite_errorcode", 0)
        return code == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY and self._begun is None

    def _replace(self, error: sqlite3.Error) -> None:
        self.close()
        kept_as = set_aside(self.path, self._now())
        log.error("journal.set_aside", path=str(self.path), kept_as=str(kept_as), error=str(error))
        self._database = connect(self.path)

    def _go_on(self, run: NewRun, past: Past, number: int) -> None:
        with transaction(self.database()) as database:
            lost = Mark(self.path).lost(run.boot_id, is_new=True)
            begin_again(database, run, past, number, memory_lost=lost)

    def _never(self) -> NoReturn:
        raise sqlite3.OperationalError("it is not open")
