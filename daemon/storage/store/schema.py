"""The tables of a store, the same in every database.

Named as in Nova's cell database, cut to what :class:`bringup.daemon.decisions.instances.Instance` holds.  A state is
stored as it was written, so that an unknown one is read back unchanged.
"""

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    insert,
    inspect,
    select,
    update,
)

from bringup.daemon.errors import Refused

SCHEMA_VERSION = 2
"""Incremented with each change of the tables; a store of a newer version is refused."""

tables = MetaData()

schema_version = Table("schema_version", tables, Column("version", Integer, primary_key=True))

instances = Table(
    "instances",
    tables,
    Column("uuid", String(36), primary_key=True),
    Column("host", String(255)),
    Column("node", String(255)),
    Column("vm_state", String(255), nullable=False),
    Column("task_state", String(255)),
    Column("power_state", Integer),
    Column("name", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("project_id", String(255)),
    Column("user_id", String(255)),
    Column("flavor", Text, nullable=False),
    Column("shutdown_terminate", Boolean, nullable=False),
    Column("terminated_at", String(255)),
    # 1: the row is deleted, whatever its vm_state says; a row of vm_state deleted with 0 here is half deleted.
    Column("deleted", Integer, nullable=False, default=0),
    Index("instances_host_deleted", "host", "deleted"),
)


def _instance_uuid() -> Column[str]:
    return Column("instance_uuid", ForeignKey(instances.c.uuid, ondelete="CASCADE"), primary_key=True)


instance_info_caches = Table(
    "instance_info_caches",
    tables,
    _instance_uuid(),
    Column("network_info", Text, nullable=False),
)

instance_metadata = Table(
    "instance_metadata",
    tables,
    _instance_uuid(),
    Column("key", String(255), primary_key=True),
    Column("value", Text, nullable=False),
)

instance_system_metadata = Table(
    "instance_system_metadata",
    tables,
    _instance_uuid(),
    Column("key", String(255), primary_key=True),
    Column("value", Text, nullable=False),
)

block_device_mapping = Table(
    "block_device_mapping",
    tables,
    _instance_uuid(),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("device", Text, nullable=False),
)

migrations = Table(
    "migrations",
    tables,
    # Incremented with each new migration: the order in which they were created.
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("uuid", String(36), nullable=False, unique=True),
    # No foreign key: an evacuated instance may be on another host, and its record not here.
    Column("instance_uuid", String(36), nullable=False),
    Column("migration_type", String(255), nullable=False),
    Column("status", String(255), nullable=False),
    Column("source_compute", String(255), nullable=False),
    Column("dest_compute", String(255)),
    Index("migrations_source_compute_status", "source_compute", "status"),
)

instance_parts = (instance_info_caches, instance_metadata, instance_system_metadata, block_device_mapping)
"""Tables whose rows belong to one instance."""

# Version 2.  Which daemon works for a host, in the time of the database; seconds since 1970.
host_leases = Table(
    "host_leases",
    tables,
    Column("host", String(255), primary_key=True),
    Column("holder", String(255), nullable=False),
    Column("until", Float, nullable=False),
)

# Version 2.  Which guest is being started, and by which daemon; valid only with the lease of the same host and holder.
instance_claims = Table(
    "instance_claims",
    tables,
    Column("instance_uuid", String(36), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("holder", String(255), nullable=False),
)


def ensure_tables(connection: Connection, name: str) -> None:
    """Create the tables that are missing, in the caller's transaction, which holds the lock of the database.

    :raises Refused: the tables of the database ``name`` are of an unknown version.
    """
    is_new = not inspect(connection).has_table(schema_version.name)
    version = None if is_new else connection.scalar(select(schema_version.c.version))
    # An earlier version only lacks tables.
    if not is_new and version not in range(1, SCHEMA_VERSION + 1):
        raise Refused(
            f"cannot use the store {name}: its schema version is {version}, this version of bringup knows "
            f"{SCHEMA_VERSION}; run the version that wrote it"
        )
    if version == SCHEMA_VERSION:
        return
    tables.create_all(connection)
    connection.execute((insert if is_new else update)(schema_version), {"version": SCHEMA_VERSION})
