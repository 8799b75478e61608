"""The store over SQL, for any database: statements run in threads, reads and saves are batched.

What only one database does is in its own module (:mod:`bringup.daemon.storage.store.sqlite`), which builds the
:class:`Database`.
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import anyio
import anyio.to_thread
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from bringup.daemon import closing
from bringup.daemon.decisions.instances import Changes, Expected, Instance, Migration
from bringup.daemon.errors import LeaseHeld, RecordNotFound, StoreError, StoreUnavailable
from bringup.daemon.storage.store import claims, reads
from bringup.daemon.storage.store.base import Claimant, ImportResult, Records
from bringup.daemon.storage.store.imports import chunks, import_records
from bringup.daemon.storage.store.rows import changed_columns
from bringup.daemon.storage.store.writes import (
    BeginStart,
    DestroyInstance,
    EndStart,
    MigrationWrite,
    SaveInstance,
    Write,
    readable,
    write,
)
from bringup.drivers.batching import ROUND, Gathering, in_thread

T = TypeVar("T")

READERS = 2
CLOSE_LIMIT_S = closing.STORE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """An open database, and the functions that depend on it."""

    name: str
    """Its name in messages."""
    engine: Engine
    read: "Transact"
    """Runs work that changes nothing, all of it as of one moment."""
    write: "Transact"
    """Runs work that changes something, whole or not at all."""
    explain: Callable[[BaseException | None], str]
    """Returns advice for an error of the database's module; may be empty."""
    now: Callable[[Connection], float]
    """Reads the clock of the database; seconds since 1970."""
    hurry: Callable[[], None] = lambda: None
    """Stops every wait for the database; may be called from any thread."""


class Transact(Protocol):
    """Runs work in one transaction; raises SQLAlchemyError if it was not made."""

    def __call__(self, work: Callable[[Connection], T], /) -> T:
        """Run it, repeatedly if the database requires that: the work must do the same each time."""


class SqlStore:
    """Records in an SQL database: a :class:`bringup.daemon.storage.store.base.Store`."""

    def __init__(self, database: Database) -> None:
        """Build it over a database that has the tables."""
        self._database = database
        self._reads = anyio.CapacityLimiter(READERS)
        self._writes = anyio.CapacityLimiter(1)
        self._closed = False
        self._fresh: Gathering[str, Instance] = Gathering(
            in_thread(self._read_round, self._reads), failure=StoreError, most=ROUND
        )
        self._saves: Gathering[Write, Instance | None] = Gathering(
            in_thread(self._write_round, self._writes), failure=StoreError, most=ROUND
        )

    async def close(self) -> None:
        """Finish the saves that were submitted, then close the connections.  Shielded, and bounded."""
        self._closed = True
        with anyio.move_on_after(CLOSE_LIMIT_S, shield=True):
            await self._saves.close()
            await self._fresh.close()
            await anyio.to_thread.run_sync(self._database.engine.dispose, limiter=self._writes, abandon_on_cancel=True)
        # What is still in progress must not keep the process.
        self.hurry()

    def hurry(self) -> None:
        """Stop every wait for the database; saves in progress end, done or not."""
        self._database.hurry()

    async def load_instances(self, host: str) -> list[Instance]:
        """Return the instances whose ``host`` is this one, without deleted rows, in the order of their UUIDs."""

        def load() -> list[Instance]:
            with self._translated(f"read the instances of host {host}"):
                return self._database.read(
                    lambda connection: reads.load_instances(connection, reads.BY_HOST, {"host": host})
                )

        return await self._run(load, self._reads)

    async def list_uuids(self, host: str) -> list[str]:
        """Return the UUIDs of the instances whose ``host`` is this one, without deleted rows, in order."""

        def load() -> list[str]:
            with self._translated(f"list the instances of host {host}"):
                return self._database.read(lambda connection: reads.list_uuids(connection, host))

        return await self._run(load, self._reads)

    async def load_instances_by_uuid(self, uuids: Collection[str]) -> list[Instance]:
        """Return the instances with these UUIDs, on any host, without deleted rows."""
        return await self._load_by_uuid(uuids, reads.BY_UUID)

    async def load_deleted(self, uuids: Collection[str]) -> list[Instance]:
        """Return the instances with these UUIDs whose row is deleted, as far as the store still has it."""
        return await self._load_by_uuid(uuids, reads.DELETED)

    async def _load_by_uuid(self, uuids: Collection[str], query: reads.InstanceReads) -> list[Instance]:
        uuids_in_order = sorted({uuid.lower() for uuid in uuids})

        def load() -> list[Instance]:
            with self._translated(f"read {len(uuids_in_order)} instances"):
                return self._database.read(
                    lambda connection: [
                        instance
                        for chunk in chunks(uuids_in_order)
                        for instance in reads.load_instances(connection, query, {"uuids": chunk})
                    ]
                )

        return await self._run(load, self._reads)

    async def load_migrations_of(self, host: str, uuids: Collection[str]) -> list[Migration]:
        """Return the migrations of these instances from or to a host, whatever their status, oldest first."""
        uuids_in_order = sorted({uuid.lower() for uuid in uuids})

        def load() -> list[Migration]:
            with self._translated(f"read the migrations of {len(uuids_in_order)} instances"):
                return self._database.read(
                    lambda connection: [
                        migration
                        for chunk in chunks(uuids_in_order)
                        for migration in reads.load_migrations_of(connection, host, chunk)
                    ]
                )

        return await self._run(load, self._reads)

    async def get_instance(self, uuid: str) -> Instance:
        """Read one instance as it is at some point after this call.

        :raises RecordNotFound: there is none, or it was deleted.
        """
        return await self._fresh.submit(uuid.lower())

    async def load_migrations(self, source_compute: str, statuses: Collection[str]) -> list[Migration]:
        """Return the migrations that leave or left this host and have one of these statuses, oldest first."""

        def load() -> list[Migration]:
            with self._translated(f"read the migrations of host {source_compute}"):
                return self._database.read(
                    lambda connection: reads.load_migrations(connection, source_compute, sorted(statuses))
                )

        return await self._run(load, self._reads)

    async def save(self, uuid: str, changes: Changes, *, expected: Expected) -> None:
        """Write ``changes``, if the record still has one of the expected states of each kind; durable on return.

        :raises StateConflict: it has not; nothing was written.
        :raises RecordNotFound: there is none, or it was deleted.
        """
        columns = changed_columns(changes)
        system_metadata = changes.get("system_metadata")
        # A text that the database cannot hold would fail the saves of others in the same commit.
        _encodable(uuid, columns.values())
        if system_metadata is not None:
            system_metadata = dict(system_metadata)
            _encodable(uuid, (*system_metadata, *system_metadata.values()))
        await self._saves.submit(SaveInstance(uuid.lower(), columns, system_metadata, expected))

    async def destroy(self, uuid: str) -> None:
        """Mark the row as deleted.

        :raises RecordNotFound: there is none, or it was deleted already.
        """
        await self._saves.submit(DestroyInstance(uuid.lower()))

    async def save_migration(self, uuid: str, *, status: str) -> None:
        """Write the status of a migration.

        :raises RecordNotFound: there is none.
        """
        _encodable(uuid, (status,))
        await self._saves.submit(MigrationWrite(uuid.lower(), status))

    async def begin_start(
        self,
        uuid: str,
        claimant: Claimant,
        *,
        expected: Expected,
        reverting: bool,
        left_over: Collection[tuple[str, str]] = (),
    ) -> Instance:
        """Claim an instance, right before its guest is started; return its record, read in the same transaction.

        :raises StateConflict: it must not be started here; nothing was claimed.
        :raises LeaseHeld: the claimant's lease is gone or another daemon's.
        :raises RecordNotFound: it is gone.
        """
        record = await self._saves.submit(BeginStart(uuid.lower(), claimant, expected, reverting, frozenset(left_over)))
        if record is None:
            raise StoreError(f"cannot claim {uuid}: no record was returned")
        return record

    async def end_start(
        self, uuid: str, claimant: Claimant, *, reverting: bool, left_over: Collection[tuple[str, str]] = ()
    ) -> None:
        """Release a claim, and check whether the guest may stay.

        :raises StateConflict: it may not.
        :raises RecordNotFound: its record is gone.
        """
        await self._saves.submit(EndStart(uuid.lower(), claimant, reverting, frozenset(left_over)))

    async def take_lease(self, claimant: Claimant, *, for_s: float) -> None:
        """Acquire or renew the lease of the host, for ``for_s`` seconds.

        :raises LeaseHeld: another daemon holds it.
        """

        def take() -> LeaseHeld | None:
            with self._translated(f"take the lease of host {claimant.host}"):
                return self._database.write(
                    lambda connection: claims.take_lease(
                        connection, claimant, for_s=for_s, now=self._database.now(connection)
                    )
                )

        held = await self._run(take, self._writes)
        if held is not None:
            raise held

    async def drop_lease(self, claimant: Claimant) -> None:
        """Release the lease, if it is this daemon's."""

        def drop() -> None:
            with self._translated(f"drop the lease of host {claimant.host}"):
                self._database.write(lambda connection: claims.drop_lease(connection, claimant))

        # A call that is abandoned ends by itself, and the lease expires.
        await self._run(drop, self._writes, abandon=True)

    async def import_records(self, records: Records) -> ImportResult:
        """Add records and overwrite those of the same UUID: all of them or, on any error, none.

        :raises StoreError: nothing was stored.
        """

        def store() -> ImportResult:
            with self._translated(f"import {len(records.instances)} instances"):
                return self._database.write(lambda connection: import_records(connection, records))

        return await self._run(store, self._writes)

    async def _run(self, work: Callable[[], T], limiter: anyio.CapacityLimiter, *, abandon: bool = False) -> T:
        if self._closed:
            raise StoreError("cannot use the store: it is closed")
        return await anyio.to_thread.run_sync(work, limiter=limiter, abandon_on_cancel=abandon)

    def _read_round(self, uuids: Sequence[str]) -> list[Instance | StoreError]:
        with self._translated(f"read {len(uuids)} instances"):
            found = self._database.read(
                lambda connection: reads.load_instances(connection, reads.BY_UUID, {"uuids": list(uuids)})
            )
        by_uuid = {instance.uuid: instance for instance in found}
        return [
            readable(by_uuid.get(uuid)) or RecordNotFound(f"cannot read instance {uuid}: there is no such record")
            for uuid in uuids
        ]

    def _write_round(self, writes: Sequence[Write]) -> list[StoreError | Instance | None]:
        with self._translated(f"save {len(writes)} records"):
            return self._database.write(lambda connection: write(connection, writes, self._database.now(connection)))

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            # The database module's own error: SQLAlchemy's shows statements and may show values.
            cause = error.orig if isinstance(error, DBAPIError) else error
            message = f"cannot {doing} in {self._database.name}"
            hint = self._database.explain(cause)
            raise StoreUnavailable(f"{message}: {hint}" if hint else message) from cause
        except ValueError as error:
            raise StoreError(f"cannot {doing} in {self._database.name}: a value in it is damaged") from error


@asynccontextmanager
async def open_store(open_database: Callable[[], Database]) -> AsyncIterator[SqlStore]:
    """Open a store in a thread, and close it on exit.  Raises what ``open_database`` raises."""
    store = SqlStore(await anyio.to_thread.run_sync(open_database))
    try:
        yield store
    finally:
        await store.close()


def _encodable(uuid: str, values: Iterable[object]) -> None:
    for value in values:
        try:
            str(value).encode()
        except UnicodeEncodeError as error:
            raise StoreError(f"cannot save {uuid}: a value is not text that UTF-8 can hold") from error
        if "\0" in str(value):
            raise StoreError(f"cannot save {uuid}: a value has a NUL in it, which not every database can hold")
