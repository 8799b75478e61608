"""Reads of records: one query per table, for any number of instances."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, Select, Table, bindparam, select, type_coerce

from bringup.daemon.decisions.instances import Instance, Migration
from bringup.daemon.logs import get_logger
from bringup.daemon.storage.store import schema
from bringup.daemon.storage.store.rows import flavor_of, instance_of, migration_of

_INSTANCE = schema.instances.c
log = get_logger()

SHOWN = 60
_FETCHED_AT_ONCE = 1000
_AS_IT_IS = ("shutdown_terminate",)


@dataclass(frozen=True, slots=True)
class InstanceReads:
    """Queries that load a set of instances."""

    instances: Select[Any]
    info_caches: Select[Any]
    metadata: Select[Any]
    system_metadata: Select[Any]
    block_devices: Select[Any]


def _reads(among: ColumnElement[bool], *, deleted: int = 0) -> InstanceReads:
    live = among & (_INSTANCE.deleted == deleted)

    def part(table: Table, *columns: str) -> Select[Any]:
        of_them = table.c.instance_uuid == _INSTANCE.uuid
        return select(table.c.instance_uuid, *(table.c[column] for column in columns)).where(of_them, live)

    devices = schema.block_device_mapping
    return InstanceReads(
        instances=select(
            *(column for column in _INSTANCE if column.name not in {"deleted", *_AS_IT_IS}),
            # As stored: SQLAlchemy would convert anything to true.
            *(type_coerce(_INSTANCE[name], Integer).label(name) for name in _AS_IT_IS),
        )
        .where(live)
        .order_by(_INSTANCE.uuid),
        info_caches=part(schema.instance_info_caches, "network_info"),
        metadata=part(schema.instance_metadata, "key", "value"),
        system_metadata=part(schema.instance_system_metadata, "key", "value"),
        block_devices=part(devices, "device").order_by(devices.c.instance_uuid, devices.c.position),
    )


BY_HOST = _reads(_INSTANCE.host == bindparam("host"))
BY_UUID = _reads(_INSTANCE.uuid.in_(bindparam("uuids", expanding=True)))
DELETED = _reads(_INSTANCE.uuid.in_(bindparam("uuids", expanding=True)), deleted=1)

_MIGRATIONS = (
    select(*(column for column in schema.migrations.c if column.name != "id"))
    .where(
        schema.migrations.c.source_compute == bindparam("source_compute"),
        schema.migrations.c.status.in_(bindparam("statuses", expanding=True)),
    )
    .order_by(schema.migrations.c.id)
)

_MIGRATIONS_OF = (
    select(*(column for column in schema.migrations.c if column.name != "id"))
    .where(
        schema.migrations.c.instance_uuid.in_(bindparam("uuids", expanding=True)),
        (schema.migrations.c.source_compute == bindparam("host"))
        | (schema.migrations.c.dest_compute == bindparam("host")),
    )
    .order_by(schema.migrations.c.id)
)


def list_uuids(connection: Connection, host: str) -> list[str]:
    """Return the UUIDs of a host's instances, in order."""
    query = select(_INSTANCE.uuid).where(_INSTANCE.host == host, _INSTANCE.deleted == 0).order_by(_INSTANCE.uuid)
    return list(connection.scalars(query))


def load_instances(connection: Connection, reads: InstanceReads, parameters: Mapping[str, Any]) -> list[Instance]:
    """Load the instances that ``reads`` selects, whole, in the order of their UUIDs."""
    # Hosts, projects, keys and flavors repeat: one object of each is kept.
    shared: dict[str, str] = {}
    flavors: dict[str, Mapping[str, Any]] = {}

    def share(text: str) -> str:
        return shared.setdefault(text, text)

    def flavor(text: str) -> Mapping[str, Any]:
        known = flavors.get(text)
        return flavors.setdefault(text, flavor_of(text)) if known is None else known

    parts = _Parts(connection, reads, parameters)
    return [
        instance_of(row, parts.of(row.uuid), flavor, share) for row in _rows(connection, reads.instances, parameters)
    ]


def load_migrations(connection: Connection, source_compute: str, statuses: Sequence[str]) -> list[Migration]:
    """Load migrations of a source host in some statuses, oldest first."""
    parameters = {"source_compute": source_compute, "statuses": list(statuses)}
    return _migrations(connection.execute(_MIGRATIONS, parameters))


def load_migrations_of(connection: Connection, host: str, uuids: Sequence[str]) -> list[Migration]:
    """Load the migrations of some instances from or to a host, oldest first."""
    return _migrations(connection.execute(_MIGRATIONS_OF, {"host": host, "uuids": list(uuids)}))


def _migrations(rows: Iterable[Any]) -> list[Migration]:
    """Parse rows; one that names no instance is ignored."""
    found = []
    for row in rows:
        migration = migration_of(row)
        if migration is None:
            log.error("store.row_ignored", error=f"a migration names the instance {ascii(row.instance_uuid)[:SHOWN]}")
        else:
            found.append(migration)
    return found


class _Parts:
    """Columns of the other tables, by instance UUID."""

    def __init__(self, connection: Connection, reads: InstanceReads, parameters: Mapping[str, Any]) -> None:
        keys: dict[str, str] = {}
        self.metadata = _pairs(_rows(connection, reads.metadata, parameters), keys.setdefault)
        self.system_metadata = _pairs(_rows(connection, reads.system_metadata, parameters), keys.setdefault)
        self.network_info = dict(map(tuple, _rows(connection, reads.info_caches, parameters)))
        self.block_devices: dict[str, list[str]] = {}
        for uuid, text in _rows(connection, reads.block_devices, parameters):
            self.block_devices.setdefault(uuid, []).append(text)

    def of(self, uuid: str) -> Mapping[str, Any]:
        """Return those of an instance, as they are stored."""
        return {
            "metadata": self.metadata.get(uuid, {}),
            "system_metadata": self.system_metadata.get(uuid, {}),
            "network_info": self.network_info.get(uuid, "[]"),
            "block_devices": self.block_devices.get(uuid, "[]"),
        }


def _pairs(rows: Iterator[Any], share: Callable[[str, str], str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for uuid, key, value in rows:
        found.setdefault(uuid, {})[share(key, key)] = share(value, value)
    return found


def _rows(connection: Connection, query: Select[Any], parameters: Mapping[str, Any]) -> Iterator[Any]:
    for partition in connection.execute(query, parameters).partitions(_FETCHED_AT_ONCE):
        yield from partition
