"""What a store of records must do.

Reads come whole: one query for all instances of a host, with their info caches, metadata, system metadata and block
device mappings.  A save is a compare-and-set.
"""

from collections.abc import Collection
from typing import Protocol

from bringup.daemon.instances import Changes, Expected, Instance, Migration


class Store(Protocol):
    """Records of instances and migrations.  Every method may raise :class:`bringup.daemon.errors.StoreError`."""

    async def close(self) -> None:
        """Let go of the store, after the saves under way."""

    async def load_instances(self, host: str) -> list[Instance]:
        """Instances whose ``host`` is this one, deleted rows left out, in the order of their UUIDs."""

    async def load_instances_by_uuid(self, uuids: Collection[str]) -> list[Instance]:
        """Instances with these UUIDs, on whatever host, deleted rows left out."""

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
