"""Protocol of a store of records.

Reads are whole: one query for all instances of a host, with their info caches, metadata, system metadata and block
device mappings.  A save is a compare-and-set.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from bringup.daemon.decisions.instances import Changes, Expected, Instance, Migration


@dataclass(frozen=True, slots=True)
class Claimant:
    """Daemon that holds the lease of a host and may start its guests."""

    host: str
    holder: str
    """UUID of the node: it distinguishes daemons for the same host name."""


class Store(Protocol):
    """Records of instances and migrations.  Every method may raise :class:`bringup.daemon.errors.StoreError`."""

    async def close(self) -> None:
        """Close the store, after the saves in progress."""

    async def load_instances(self, host: str) -> list[Instance]:
        """Return the instances whose ``host`` is this one, without deleted rows, in the order of their UUIDs."""

    async def list_uuids(self, host: str) -> list[str]:
        """Return the UUIDs of the instances whose ``host`` is this one, without deleted rows, in order."""

    async def load_instances_by_uuid(self, uuids: Collection[str]) -> list[Instance]:
        """Return the instances with these UUIDs, on any host, without deleted rows."""

    async def load_deleted(self, uuids: Collection[str]) -> list[Instance]:
        """Return the instances with these UUIDs whose row is deleted, as far as the store still has it."""

    async def load_migrations_of(self, host: str, uuids: Collection[str]) -> list[Migration]:
        """Return the migrations of these instances from or to a host, whatever their status, oldest first."""

    async def get_instance(self, uuid: str) -> Instance:
        """Read one instance from the store again.

        :raises RecordNotFound: there is none, or it was deleted.
        """

    async def load_migrations(self, source_compute: str, statuses: Collection[str]) -> list[Migration]:
        """Return the migrations that leave or left this host and have one of these statuses, oldest first."""

    async def save(self, uuid: str, changes: Changes, *, expected: Expected) -> None:
        """Write ``changes``, if the record still has one of the expected states of each kind; durable on return.

        :raises StateConflict: it has not; nothing was written.
        :raises RecordNotFound: there is none, or it was deleted.
        """

    async def destroy(self, uuid: str) -> None:
        """Mark the row as deleted (Nova's soft delete of the row, not the vm_state ``soft-delete``).

        :raises RecordNotFound: there is none, or it was deleted already.
        """

    async def save_migration(self, uuid: str, *, status: str) -> None:
        """Write the status of a migration.

        :raises RecordNotFound: there is none.
        """

    async def begin_start(
        self,
        uuid: str,
        claimant: Claimant,
        *,
        expected: Expected,
        reverting: bool,
        left_over: Collection[tuple[str, str]] = (),
    ) -> Instance | None:
        """Claim an instance, right before its guest is started.

        A store with transactions returns its record, read in the same one.

        The claim holds as long as the claimant's lease, or until :meth:`end_start`; the same claimant may claim again.
        With ``reverting`` a cold migration or resize in progress is no obstacle: it is the one that is rolled back.
        Neither is a row that is ``left_over``: UUID and status of each that was found before and is not in progress.

        :raises StateConflict: the record names another host or has none of the expected states; a migration of it
            away from this host is in progress (:data:`AWAY_STATUSES`), an evacuation included; or another host, whose
            lease holds, has claimed it.  Nothing must be started.
        :raises LeaseHeld: the claimant's lease is gone or another daemon's.
        :raises RecordNotFound: it is gone.
        """

    async def end_start(
        self, uuid: str, claimant: Claimant, *, reverting: bool, left_over: Collection[tuple[str, str]] = ()
    ) -> None:
        """Release a claim, and check whether the guest may stay.

        :raises StateConflict: meanwhile the record has moved to another host, or a migration away was started: a guest
            that was started must be stopped again.  The claim is released all the same.
        :raises RecordNotFound: it is gone; so is the claim.
        """

    async def take_lease(self, claimant: Claimant, *, for_s: float) -> None:
        """Acquire or renew the lease of the host, for ``for_s`` seconds of the database's clock.

        :raises LeaseHeld: another daemon holds it; the message names it, and the seconds that are left.
        """

    async def drop_lease(self, claimant: Claimant) -> None:
        """Release the lease, if it is this daemon's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Instances and migrations, each UUID once, in the order of their file."""

    instances: tuple[Instance, ...] = ()
    migrations: tuple[Migration, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """Counts of an import: instances that were not in the store (or deleted there), and those that were."""

    added: int
    updated: int
    migrations_added: int = 0
    migrations_updated: int = 0


class ImportingStore(Store, Protocol):
    """Store that accepts records from a file."""

    async def import_records(self, records: Records) -> ImportResult:
        """Add records and overwrite those of the same UUID: all of them or, on any error, none.

        :raises StoreError: nothing was stored.
        """
