"""Read-only store over the records of a file."""

from collections.abc import Collection
from typing import NoReturn

from bringup.daemon.decisions.instances import Changes, Expected, Instance, Migration
from bringup.daemon.errors import RecordNotFound, StoreError
from bringup.daemon.storage.record_files import Records
from bringup.daemon.storage.store.base import Claimant


class FileStore:
    """Read-only :class:`bringup.daemon.storage.store.base.Store` for plans."""

    def __init__(self, records: Records) -> None:
        """Serve these records."""
        self._instances = {instance.uuid: instance for instance in records.instances}
        self._migrations = records.migrations

    async def close(self) -> None:
        """Do nothing: no resource is held."""

    async def load_instances(self, host: str) -> list[Instance]:
        """Return the instances of a host, by UUID."""
        return sorted((each for each in self._instances.values() if each.host == host), key=lambda each: each.uuid)

    async def list_uuids(self, host: str) -> list[str]:
        """Return the UUIDs of the instances of a host, in order."""
        return [each.uuid for each in await self.load_instances(host)]

    async def load_instances_by_uuid(self, uuids: Collection[str]) -> list[Instance]:
        """Return the instances with these UUIDs, on any host."""
        return [self._instances[uuid] for uuid in uuids if uuid in self._instances]

    async def load_deleted(self, uuids: Collection[str]) -> list[Instance]:
        """Return none: a file has no deleted rows."""
        del uuids
        return []

    async def load_migrations_of(self, host: str, uuids: Collection[str]) -> list[Migration]:
        """Return the migrations of these instances from or to a host, in the order of the file."""
        return [
            each
            for each in self._migrations
            if each.instance_uuid in uuids and host in (each.source_compute, each.dest_compute)
        ]

    async def get_instance(self, uuid: str) -> Instance:
        """Read one instance.

        :raises RecordNotFound: it does not exist.
        """
        try:
            return self._instances[uuid]
        except KeyError:
            raise RecordNotFound(f"cannot read instance {uuid}: there is no such record") from None

    async def load_migrations(self, source_compute: str, statuses: Collection[str]) -> list[Migration]:
        """Return the migrations from a host with one of these statuses, in the order of the file."""
        return [each for each in self._migrations if each.source_compute == source_compute and each.status in statuses]

    async def save(self, uuid: str, changes: Changes, *, expected: Expected) -> None:
        """Raise StoreError."""
        del changes, expected
        _refuse(f"save instance {uuid}")

    async def destroy(self, uuid: str) -> None:
        """Raise StoreError."""
        _refuse(f"delete instance {uuid}")

    async def save_migration(self, uuid: str, *, status: str) -> None:
        """Raise StoreError."""
        del status
        _refuse(f"save migration {uuid}")

    async def begin_start(
        self,
        uuid: str,
        claimant: Claimant,
        *,
        expected: Expected,
        reverting: bool,
        left_over: Collection[tuple[str, str]] = (),
    ) -> Instance:
        """Raise StoreError."""
        del claimant, expected, reverting, left_over
        _refuse(f"claim instance {uuid}")

    async def end_start(
        self, uuid: str, claimant: Claimant, *, reverting: bool, left_over: Collection[tuple[str, str]] = ()
    ) -> None:
        """Raise StoreError."""
        del claimant, reverting, left_over
        _refuse(f"claim instance {uuid}")

    async def take_lease(self, claimant: Claimant, *, for_s: float) -> None:
        """Raise StoreError."""
        del for_s
        _refuse(f"take the lease of {claimant.host}")

    async def drop_lease(self, claimant: Claimant) -> None:
        """Raise StoreError."""
        _refuse(f"drop the lease of {claimant.host}")


def _refuse(doing: str) -> NoReturn:
    raise StoreError(f"cannot {doing}: records of a file are read-only")
