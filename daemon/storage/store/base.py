"""What a store of records must do.

Reads come whole: one query for all instances of a host, with their info caches, metadata, system metadata and block
device mappings.  A save is a compare-and-set.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bringup.daemon.decisions.instances import Changes, Expected, Instance, Migration
from bringup.daemon.decisions.migrating import AWAY_STATUSES

if TYPE_CHECKING:
    from bringup.daemon.storage.store.imports import ImportResult

__all__ = ["AWAY_STATUSES", "Claimant", "ImportingStore", "Store"]


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who wants to start guests: the daemon that holds the lease of a host."""

    host: str
    holder: str
    """Tells daemons for the same host name apart: the node's UUID."""


class Store(Protocol):
    """Records of instances and migrations.  Every method may raise :class:`bringup.daemon.errors.StoreError`."""

    async def close(self) -> None:
        """Let go of the store, after the saves under way."""

    async def load_instances(self, host: str) -> list[Instance]:
        """Instances whose ``host`` is this one, deleted rows left out, in the order of their UUIDs."""

    async def list_uuids(self, host: str) -> list[str]:
        """UUIDs of the instances whose ``host`` is this one, deleted rows left out, in order."""

    async def load_instances_by_uuid(self, uuids: Collection[str]) -> list[Instance]:
        """Instances with these UUIDs, on whatever host, deleted rows left out."""

    async def load_deleted(self, uuids: Collection[str]) -> list[Instance]:
        """Instances with these UUIDs whose row is deleted, as far as the store still has it."""

    async def load_migrations_of(self, host: str, uuids: Collection[str]) -> list[Migration]:
        """Migrations of these instances from or to a host, whatever has come of them, oldest first."""

    async def get_instance(self, uuid: str) -> Instance:
        """Read one instance afresh.

        :raises RecordNotFound: there is none, or it was deleted.
        """

    async def load_migrations(self, source_compute: str, statuses: Collection[str]) -> list[Migration]:
        """Migrations that leave or left this host and have one of these statuses, oldest first."""

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

        A store with transactions gives its record, read in the same one.

        The claim holds as long as the claimant's lease, or until :meth:`end_start`; the same claimant may claim again.
        With ``reverting`` a cold migration or resize under way is no obstacle: it is what is rolled back.  Neither is a
        row that is ``left_over``: UUID and status of each that was found before, and that nobody works on.

        :raises StateConflict: the record names another host or has none of the expected states; a migration of it
            away from this host is under way (:data:`AWAY_STATUSES`), an evacuation included; or another host, whose
            lease holds, has claimed it.  Nothing is to be started.
        :raises LeaseHeld: the claimant's lease is gone or somebody else's.
        :raises RecordNotFound: it is gone.
        """

    async def end_start(
        self, uuid: str, claimant: Claimant, *, reverting: bool, left_over: Collection[tuple[str, str]] = ()
    ) -> None:
        """Let go of a claim, and tell whether the guest may stay.

        :raises StateConflict: meanwhile the record has moved to another host, or a migration away was begun: a guest
            that was started must be stopped again.  The claim is let go of all the same.
        :raises RecordNotFound: it is gone; so is the claim.
        """

    async def take_lease(self, claimant: Claimant, *, for_s: float) -> None:
        """Make this daemon the only one of its host for so many seconds of the database's clock; again renews it.

        :raises LeaseHeld: another daemon holds it; the message says which, and for how long still.
        """

    async def drop_lease(self, claimant: Claimant) -> None:
        """Let go of the lease, if it is this daemon's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Instances and migrations, each UUID once, in the order of their file."""

    instances: tuple[Instance, ...] = ()
    migrations: tuple[Migration, ...] = ()


class ImportingStore(Store, Protocol):
    """A store that takes records from a file."""

    async def import_records(self, records: "Records") -> "ImportResult":
        """Add records and overwrite those of the same UUID: all of them or, on any error, none.

        :raises StoreError: nothing was stored.
        """
