"""Writer of our own JSON, ``bringup.records/1``: every field of every record."""

import json
from dataclasses import fields
from typing import Any

from bringup.daemon.decisions.instances import Instance, Migration
from bringup.daemon.storage.store.base import Records

FORMAT = "bringup.records/1"

_STATES = frozenset({"vm_state", "task_state", "power_state"})
_MAPPINGS = frozenset({"flavor", "metadata", "system_metadata"})
_SEQUENCES = frozenset({"network_info", "block_devices"})
_INSTANCE_FIELDS = tuple(field.name for field in fields(Instance))
# When Nova last wrote a row is not stored: it is meaningful only while it is fresh.
_MIGRATION_FIELDS = tuple(field.name for field in fields(Migration) if field.compare)


def dump_records(records: Records, *, indent: int | None = None) -> str:
    """Return records as one JSON document, which ``read_records`` parses back unchanged."""
    document = {
        "format": FORMAT,
        "instances": [_instance(instance) for instance in records.instances],
        "migrations": [
            {name: getattr(migration, name) for name in _MIGRATION_FIELDS} for migration in records.migrations
        ],
    }
    return json.dumps(document, indent=indent)


def _instance(instance: Instance) -> dict[str, Any]:
    return {name: _plain(name, getattr(instance, name)) for name in _INSTANCE_FIELDS}


def _plain(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _STATES:
        return value.value
    if name in _MAPPINGS:
        return dict(value)
    if name in _SEQUENCES:
        return [dict(entry) for entry in value]
    return value
