"""Files of the journal: each byte may be another one; see also ``test_journal_damage.py``, which goes on with a run."""

import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, Final

import anyio
import pytest
from hypothesis import given

from bringup.daemon.decisions.outcomes import Kind, Outcome
from bringup.daemon.errors import Refused, Temporary
from bringup.daemon.status.timeline_of_run import timeline_of
from bringup.daemon.storage.journal import NewRun
from bringup.daemon.storage.journal.history import DamagedJournal, read
from bringup.daemon.storage.journal.sqlite import open_journal
from support.drivers import uuid_of
from support.fuzzing import CHANCES, Border, fuzz
from support.hosts import HOST, IN_MEMORY, now
from support.mutating import NUMBERS, TEXTS, mangled

BORDER = "journal files"
RUN: Final = uuid_of(50)


async def filled(path: Path, *, boot: int = 1, run: str = RUN) -> None:
    async with open_journal(path, boot_id=uuid_of(boot), keep_runs=50, keep_days=90, now=now) as journal:
        await journal.begin_run(NewRun(run_id=run, boot_id=uuid_of(boot), host=HOST, began_at=now()))
        for number in range(1, 4):
            await journal.settled(Outcome(uuid=uuid_of(number), kind=Kind.INITIALIZED, because=("vifs",), took_s=0.1))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a journal of one run."""
    path = tmp_path_factory.mktemp("journal") / "journal.sqlite"
    anyio.run(filled, path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return path


def rows_changed(path: Path, chance: Random) -> None:
    """Put something else into a column, as somebody with an editor of databases would."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA foreign_keys=OFF")
        tables = [
            name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table' ORDER BY name")
        ]
        table = chance.choice([name for name in tables if not name.startswith("sqlite_")])
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        value: Any = chance.choice((*TEXTS, *NUMBERS, None, b"\xff\x00"))
        if isinstance(value, str):
            value = value.encode(errors="replace").decode()
        if isinstance(value, int) and abs(value) >= 2**63:
            value = float(value) if value < 10**300 else str(value)[:300]
        try:
            database.execute(f"UPDATE {table} SET {chance.choice(columns)} = ?", (value,))  # noqa: S608 - its own names
            database.commit()
        except sqlite3.Error:
            database.rollback()


def look(path: Path) -> None:
    with read(path) as history:
        if history is None:
            return
        for run in history.runs(10):
            history.instances_of(str(run["run_id"]))
        history.instance(uuid_of(1))
        timeline_of(history, "last")
        history.kept_disks()
        history.past(uuid_of(1), HOST, now())


@fuzz(120)
@given(chance=CHANCES)
def test_a_journal_is_read_or_refused_and_the_next_run_begins(
    border: Border, sound: Path, tmp_path: Path, chance: Random
) -> None:
    folder = Path(IN_MEMORY) if IN_MEMORY else tmp_path
    path = folder / f"fuzz-{tmp_path.name}.sqlite"
    for old in folder.glob(f"{path.name}*"):
        old.unlink()
    damaged, content = chance.randrange(2) == 0, sound.read_bytes()
    path.write_bytes(mangled(chance, content, most=4) if damaged else content)
    if not damaged:
        rows_changed(path, chance)
    with border.one(Refused, Temporary):
        look(path)
    with border.one(Refused):
        anyio.run(lambda: filled(path, boot=2, run=uuid_of(51)))
    for old in folder.glob(f"{path.name}*"):
        old.unlink()


@pytest.mark.parametrize("name", [b"run_id", b"boot_id", b"CREATE TABLE runs"], ids=ascii)
def test_a_damaged_name_is_damage_and_the_next_run_begins(
    border: Border, sound: Path, tmp_path: Path, name: bytes
) -> None:
    path = tmp_path / "journal.sqlite"
    data = sound.read_bytes()
    assert name in data
    path.write_bytes(data.replace(name, b"\xc6\xfe(" + name[3:]))
    with border.one(DamagedJournal):
        look(path)
    assert border.refused
    with border.one():
        anyio.run(lambda: filled(path, boot=2, run=uuid_of(51)))
    assert [*tmp_path.glob("*.corrupt-*")]
