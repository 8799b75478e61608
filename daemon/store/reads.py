"""Loads records: one query a table, however many instances there are."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, bindparam, select

from bringup.daemon.instances import Instance, Migration
from bringup.daemon.states import power_state, task_state, vm_state
from bringup.daemon.store import schema
from bringup.daemon.store.rows import JsonSequence

_INSTANCE = schema.instances.c
_FETCHED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class InstanceReads:
    """The queries that load a set of instances."""

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
        instances=select(*(column for column in _INSTANCE if column.name != "deleted"))
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
    """Give the UUIDs of a host's instances, in order."""
    query = select(_INSTANCE.uuid).where(_INSTANCE.host == host, _INSTANCE.deleted == 0).order_by(_INSTANCE.uuid)
    return list(connection.scalars(query))


def load_instances(connection: Connection, reads: InstanceReads, parameters: Mapping[str, Any]) -> list[Instance]:
    """Load the instances that ``reads`` and its parameters mean, whole, in the order of their UUIDs."""
    # Hosts, projects, keys and flavors repeat: one object of each is kept.
    shared: dict[str, str] = {}
    flavors: dict[str, Mapping[str, Any]] = {}

    def share(text: str | None) -> str | None:
        return None if text is None else shared.setdefault(text, text)

    def flavor(text: str) -> Mapping[str, Any]:
        known = flavors.get(text)
        return flavors.setdefault(text, json.loads(text)) if known is None else known

    parts = _Parts(connection, reads, parameters)
    return [
        Instance(
            uuid=row.uuid,
            host=share(row.host),
            node=share(row.node),
            vm_state=vm_state(row.vm_state),
            task_state=task_state(row.task_state),
            power_state=power_state(row.power_state),
            name=row.name,
            display_name=row.display_name,
            project_id=share(row.project_id),
            user_id=share(row.user_id),
            flavor=flavor(row.flavor),
            metadata=parts.metadata.get(row.uuid, {}),
            system_metadata=parts.system_metadata.get(row.uuid, {}),
            network_info=parts.network_info.get(row.uuid, ()),
            block_devices=parts.block_devices.get(row.uuid, ()),
            shutdown_terminate=row.shutdown_terminate,
            terminated_at=row.terminated_at,
        )
        for row in _rows(connection, reads.instances, parameters)
    ]


def load_migrations(connection: Connection, source_compute: str, statuses: Sequence[str]) -> list[Migration]:
    """Load migrations of a source host in some statuses, oldest first."""
    parameters = {"source_compute": source_compute, "statuses": list(statuses)}
    return [Migration(**row._mapping) for row in connection.execute(_MIGRATIONS, parameters)]  # noqa: SLF001 - its API


def load_migrations_of(connection: Connection, host: str, uuids: Sequence[str]) -> list[Migration]:
    """Load the migrations of some instances from or to a host, oldest first."""
    found = connection.execute(_MIGRATIONS_OF, {"host": host, "uuids": list(uuids)})
    return [Migration(**row._mapping) for row in found]  # noqa: SLF001 - its API


class _Parts:
    """What other tables hold of the instances, by instance UUID."""

    def __init__(self, connection: Connection, reads: InstanceReads, parameters: Mapping[str, Any]) -> None:
        keys: dict[str, str] = {}
        self.metadata = _pairs(_rows(connection, reads.metadata, parameters), keys.setdefault)
        self.system_metadata = _pairs(_rows(connection, reads.system_metadata, parameters), keys.setdefault)
        self.network_info = {
            uuid: JsonSequence(text) if text != "[]" else ()
            for uuid, text in _rows(connection, reads.info_caches, parameters)
        }
        devices: dict[str, list[str]] = {}
        for uuid, text in _rows(connection, reads.block_devices, parameters):
            devices.setdefault(uuid, []).append(text)
        self.block_devices = {uuid: JsonSequence(f"[{','.join(texts)}]") for uuid, texts in devices.items()}


def _pairs(rows: Iterator[Any], share: Callable[[str, str], str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for uuid, key, value in rows:
        found.setdefault(uuid, {})[share(key, key)] = share(value, value)
    return found


def _rows(connection: Connection, query: Select[Any], parameters: Mapping[str, Any]) -> Iterator[Any]:
    for partition in connection.execute(query, parameters).partitions(_FETCHED_AT_ONCE):
        yield from partition
