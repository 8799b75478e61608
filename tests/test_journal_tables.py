"""The tables of a journal are made and added to by one process, however many open it at the same moment."""

import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from bringup.daemon.storage.journal import history
from bringup.daemon.storage.journal.file import connect
from bringup.daemon.storage.journal.schema import ADDED_COLUMNS, ADDED_TABLES
from bringup.daemon.storage.sqlite_file import is_damage

AT_ONCE = 6
FILES = 12


def of_an_earlier_version(path: Path) -> None:
    connect(path).close()
    with closing(sqlite3.connect(path)) as database:
        for table in ADDED_TABLES:
            database.execute(f"DROP TABLE {table}")
        database.execute("CREATE TABLE host_steps (run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE)")
        for table, columns in ADDED_COLUMNS.items():
            for name in columns:
                database.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
        database.commit()


def tables_of(database: sqlite3.Connection) -> set[str]:
    return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def opened_at_once(path: Path) -> None:
    """Open a journal in several threads at the same moment.  Raises what one of them raises."""
    together = threading.Barrier(AT_ONCE)

    def open_it(_number: int) -> None:
        together.wait(30)
        connect(path).close()

    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(open_it, range(AT_ONCE)))


@pytest.mark.parametrize("is_new", [True, False], ids=["none", "earlier version"])
def test_concurrent_opens_find_the_journal_sound(tmp_path: Path, is_new: bool) -> None:  # noqa: FBT001
    for number in range(FILES):
        path = tmp_path / f"{number}.sqlite"
        if not is_new:
            of_an_earlier_version(path)
        opened_at_once(path)
        with closing(sqlite3.connect(path)) as database:
            assert "was" in {row[1] for row in database.execute("PRAGMA table_info(instances)")}
            assert tables_of(database) >= ADDED_TABLES


@pytest.mark.parametrize("table", sorted(ADDED_TABLES))
def test_each_table_that_an_earlier_version_does_not_have_is_made(tmp_path: Path, table: str) -> None:
    path = tmp_path / "journal.sqlite"
    connect(path).close()
    with closing(sqlite3.connect(path)) as database:
        whole = tables_of(database)
        database.execute(f"DROP TABLE {table}")
    connect(path).close()
    with closing(sqlite3.connect(path)) as database:
        assert tables_of(database) == whole


def test_a_process_that_waited_for_a_migration_reads_the_version_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    of_an_earlier_version(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as first, ThreadPoolExecutor(1) as threads:
        first.execute("BEGIN IMMEDIATE")
        second = threads.submit(lambda: connect(path).close())
        first.execute("ALTER TABLE instances ADD COLUMN was TEXT")
        first.execute("COMMIT")
        assert second.result(30) is None


def test_tables_of_another_process_are_no_damage_and_a_missing_table_is(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "some.sqlite")) as database:
        database.execute("CREATE TABLE boots (number)")
        for statement in ("CREATE TABLE boots (number)", "ALTER TABLE boots ADD COLUMN number"):
            with pytest.raises(sqlite3.OperationalError) as raised:
                database.execute(statement)
            assert not is_damage(raised.value)
        with pytest.raises(sqlite3.OperationalError) as raised:
            database.execute("SELECT 1 FROM runs")
        assert is_damage(raised.value)


def test_a_journal_without_one_of_its_first_tables_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    connect(path).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE instances")
    with pytest.raises(sqlite3.DatabaseError) as raised:
        connect(path)
    assert is_damage(raised.value)


def test_a_journal_whose_creation_was_cut_short_is_read_as_one_without_runs(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    written = tmp_path / "written.sqlite"
    with closing(sqlite3.connect(written, isolation_level=None)) as database:
        # As SQLite begins: what it overwrites is in a file beside it, until the log is on.
        database.execute("PRAGMA cache_size=1")
        database.execute("BEGIN")
        database.execute("CREATE TABLE half (made BLOB)")
        database.execute("INSERT INTO half VALUES (zeroblob(100000))")
        for suffix in ("", "-journal"):
            shutil.copyfile(f"{written}{suffix}", f"{path}{suffix}")
    with history.read(path) as read:
        assert read is None
    with closing(connect(path)) as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (0,)
