"""State of a simulated host that survives a crash of its process: guests, fates of disks, counts, spent faults.

A guest of a real hypervisor continues to run when the daemon dies.  Each change is one SQLite transaction; it survives
the death of the process, not (it is a simulation) that of the machine.
"""

import sqlite3
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationError

from bringup.drivers.files import database_file_problem
from bringup.drivers.simulated.calls import Calls
from bringup.drivers.simulated.faults import Faults
from bringup.drivers.simulated.hypervisor import SimulatedHypervisor
from bringup.drivers.simulated.scenario import SimulatedGuest
from bringup.drivers.simulated.scenario_file import ScenarioError, adapter_of
from bringup.drivers.simulated.verbs import Verb

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS guests (uuid TEXT PRIMARY KEY, document BLOB, disks TEXT);
CREATE TABLE IF NOT EXISTS counts (
  verb TEXT, uuid TEXT, entered INTEGER DEFAULT 0, done INTEGER DEFAULT 0, PRIMARY KEY (verb, uuid));
CREATE TABLE IF NOT EXISTS faults (position INTEGER PRIMARY KEY, passed INTEGER, struck INTEGER);
"""
_COUNT: Final = {
    "entered": "INSERT INTO counts (verb, uuid, entered) VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET entered=entered+1",
    "done": "INSERT INTO counts (verb, uuid, done) VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET done=done+1",
}
_GUEST_ROW: Final = """
INSERT INTO guests VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET document = excluded.document, disks = excluded.disks
"""


class StateFile:
    """The state of one simulated host in one SQLite file."""

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        :raises ScenarioError: it cannot be opened, or is something else.
        """
        self._path = path
        if found := database_file_problem(path):
            raise ScenarioError(path, [f"cannot be used as the state of a simulated host: {found}"])
        with self._reported():
            # One thread uses it; the garbage collector may close it in another.
            self._database = sqlite3.connect(path, check_same_thread=False)
        weakref.finalize(self, self._database.close)
        with self._transaction() as database:
            # No sync to the disk: a dead process cannot lose what the kernel has.
            database.execute("PRAGMA synchronous = OFF")
            # A rollback journal would be created and removed for each change; the log is kept short.
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA wal_autocheckpoint = 32")
            database.executescript(_TABLES)

    def load(self, hypervisor: SimulatedHypervisor, calls: Calls, faults: Faults) -> None:
        """Restore what was saved; an empty file gets the guests of the scenario.

        :raises ScenarioError: a guest in it is not right.
        """
        with self._transaction() as database:
            rows = database.execute("SELECT uuid, document, disks FROM guests ORDER BY rowid").fetchall()
            counts = database.execute("SELECT verb, uuid, entered FROM counts").fetchall()
            spent = database.execute("SELECT position, passed, struck FROM faults").fetchall()
            if not rows:
                _write(database, hypervisor, hypervisor.guests)
                return
        adapter = adapter_of(SimulatedGuest)
        try:
            guests = {uuid: adapter.validate_json(document) for uuid, document, _ in rows if document is not None}
        except ValidationError as error:
            raise ScenarioError(self._path, ["has a guest that this version cannot read"]) from error
        numbers = (*(row[-1] for row in counts), *(number for row in spent for number in row))
        if not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise ScenarioError(self._path, ["has a count that is no number; remove the file to start again"])
        hypervisor.restore(guests, {uuid: fate for uuid, _, fate in rows if fate is not None})
        for verb, uuid, entered in counts:
            calls.restore_count(verb, uuid, entered)
        for position, passed, struck in spent:
            if position < len(faults.all):
                faults.all[position].passed, faults.all[position].struck = passed, struck

    def save(
        self,
        what: Literal["entered", "done"],
        verb: Verb,
        uuid: str,
        *,
        hypervisor: SimulatedHypervisor,
        faults: Faults,
    ) -> None:
        """Save that a verb was entered, or that it took effect, with the guest and the faults as they are now."""
        spent = [(i, armed.passed, armed.struck) for i, armed in enumerate(faults.all) if armed.passed or armed.struck]
        with self._transaction() as database:
            database.execute(_COUNT[what], (verb, uuid))
            database.executemany("INSERT OR REPLACE INTO faults VALUES (?, ?, ?)", spent)
            if uuid and what == "done":
                _write(database, hypervisor, [uuid])

    def save_guest(self, uuid: str, hypervisor: SimulatedHypervisor) -> None:
        """Save a guest that changed by itself."""
        with self._transaction() as database:
            _write(database, hypervisor, [uuid])

    def done(self, verb: Verb, uuid: str) -> int:
        """Return how often a verb had its effect on a guest, over all processes."""
        query = "SELECT done FROM counts WHERE verb = ? AND uuid = ?"
        with self._transaction() as database:
            row: tuple[int] | None = database.execute(query, (verb, uuid)).fetchone()
        return row[0] if row else 0

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._reported(), self._database:
            yield self._database

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise ScenarioError(
                self._path, ["cannot be used as the state of a simulated host, a SQLite file"]
            ) from error


def _write(database: sqlite3.Connection, hypervisor: SimulatedHypervisor, uuids: Iterable[str]) -> None:
    rows = [(uuid, _document(hypervisor, uuid), _fate_of_disks(hypervisor, uuid)) for uuid in uuids]
    database.executemany(_GUEST_ROW, rows)


def _document(hypervisor: SimulatedHypervisor, uuid: str) -> bytes | None:
    guest = hypervisor.guests.get(uuid)
    return None if guest is None else adapter_of(SimulatedGuest).dump_json(guest, exclude_defaults=True)


def _fate_of_disks(hypervisor: SimulatedHypervisor, uuid: str) -> str | None:
    if uuid in hypervisor.disks_destroyed:
        return "destroyed"
    if uuid in hypervisor.disks_set_aside:
        return "aside"
    return "kept" if uuid in hypervisor.disks_kept else None
