"""Import of records from a file: all of them in one transaction; those of the same UUIDs are overwritten."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, bindparam, delete, insert, select, update

from bringup.daemon.decisions.instances import Instance, Migration
from bringup.daemon.storage.store import schema
from bringup.daemon.storage.store.base import ImportResult, Records
from bringup.daemon.storage.store.rows import block_device_rows, instance_row, metadata_rows, migration_row, text_of

CHUNK = 500
"""Most UUIDs in one statement."""

T = TypeVar("T")


_INSTANCES_THERE = select(schema.instances.c.uuid, schema.instances.c.deleted).where(
    schema.instances.c.uuid.in_(bindparam("uuids", expanding=True))
)
_MIGRATIONS_THERE = select(schema.migrations.c.uuid).where(
    schema.migrations.c.uuid.in_(bindparam("uuids", expanding=True))
)
_UPDATE_INSTANCE = (
    update(schema.instances)
    .where(schema.instances.c.uuid == bindparam("b_uuid"))
    .values({column.name: bindparam(column.name) for column in schema.instances.c if column.name != "uuid"})
)
_UPDATE_MIGRATION = (
    update(schema.migrations)
    .where(schema.migrations.c.uuid == bindparam("b_uuid"))
    .values(
        {column.name: bindparam(column.name) for column in schema.migrations.c if column.name not in {"id", "uuid"}}
    )
)
_DELETE_PART = {
    table.name: delete(table).where(table.c.instance_uuid == bindparam("b_uuid")) for table in schema.instance_parts
}


def import_records(connection: Connection, records: Records) -> ImportResult:
    """Add what is new and overwrite what is there; a row that was deleted is restored."""
    added, updated = _import_instances(connection, records.instances)
    migrations_added, migrations_updated = _import_migrations(connection, records.migrations)
    return ImportResult(
        added=added, updated=updated, migrations_added=migrations_added, migrations_updated=migrations_updated
    )


def _import_instances(connection: Connection, instances: Sequence[Instance]) -> tuple[int, int]:
    rows = [instance_row(instance) for instance in instances]
    there: dict[str, int] = {}
    for chunk in chunks([row["uuid"] for row in rows]):
        there.update((uuid, deleted) for uuid, deleted in connection.execute(_INSTANCES_THERE, {"uuids": chunk}))
    old = [row for row in rows if row["uuid"] in there]
    if old:
        connection.execute(_UPDATE_INSTANCE, [{"b_uuid": row["uuid"], **_without_uuid(row)} for row in old])
        for table in schema.instance_parts:
            connection.execute(_DELETE_PART[table.name], [{"b_uuid": row["uuid"]} for row in old])
    _insert(connection, schema.instances, [row for row in rows if row["uuid"] not in there])
    _insert_parts(connection, instances)
    updated = sum(not deleted for deleted in there.values())
    return len(rows) - updated, updated


def _insert_parts(connection: Connection, instances: Sequence[Instance]) -> None:
    for chunk in chunks(instances):
        by_uuid = [(instance.uuid.lower(), instance) for instance in chunk]
        info_caches = [{"instance_uuid": u, "network_info": text_of(one.network_info)} for u, one in by_uuid]
        metadata = [row for u, one in by_uuid for row in metadata_rows(u, one.metadata)]
        system_metadata = [row for u, one in by_uuid for row in metadata_rows(u, one.system_metadata)]
        devices = [row for u, one in by_uuid for row in block_device_rows(u, one.block_devices)]
        _insert(connection, schema.instance_info_caches, info_caches)
        _insert(connection, schema.instance_metadata, metadata)
        _insert(connection, schema.instance_system_metadata, system_metadata)
        _insert(connection, schema.block_device_mapping, devices)


def _import_migrations(connection: Connection, migrations: Sequence[Migration]) -> tuple[int, int]:
    rows = [migration_row(migration) for migration in migrations]
    there: set[str] = set()
    for chunk in chunks([row["uuid"] for row in rows]):
        there.update(connection.execute(_MIGRATIONS_THERE, {"uuids": chunk}).scalars())
    old = [row for row in rows if row["uuid"] in there]
    if old:
        connection.execute(_UPDATE_MIGRATION, [{"b_uuid": row["uuid"], **_without_uuid(row)} for row in old])
    _insert(connection, schema.migrations, [row for row in rows if row["uuid"] not in there])
    return len(rows) - len(old), len(old)


def _insert(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(table), rows)


def _without_uuid(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "uuid"}


def chunks(items: Sequence[T], size: int = CHUNK) -> Iterator[Sequence[T]]:
    """Cut into pieces, by default of a size that fits in one statement."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
