"""Nova's objects, as nova-conductor writes them, made into records.  Pure.

What a record has no place for is not kept: it is never written back either, since a save names its fields.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bringup.daemon.instances import Instance, Migration
from bringup.daemon.rpc.errors import Unreadable
from bringup.daemon.rpc.objects import field, read
from bringup.daemon.states import TaskState, UnknownState, VmState, power_state, task_state, vm_state
from bringup.daemon.store.rows import JsonSequence, to_json
from bringup.drivers.volume_identity import without_credentials

INFO_CACHE = "InstanceInfoCache"

# The lowest versions that have what is read here.  nova.objects tells them apart: what a later one adds is not used.
VERSIONS: Mapping[str, str] = {
    "InstanceList": "2.0",
    "Instance": "2.0",
    INFO_CACHE: "1.5",
    "BlockDeviceMappingList": "1.0",
    "BlockDeviceMapping": "1.0",
    "MigrationList": "1.0",
    "Migration": "1.5",
    "ComputeNode": "1.16",
    "PciDevicePoolList": "1.1",
    "PciDevicePool": "1.1",
    "HVSpec": "1.2",
}
EXPECTED_ATTRS = ("info_cache", "metadata", "system_metadata")
"""What an instance is loaded with, in the one request that loads it."""


@dataclass(frozen=True, slots=True)
class Row:
    """An instance, and what a later write of it needs."""

    instance: Instance
    number: int
    """Nova's ``id``."""
    valueless: tuple[str, ...]
    """Keys of its system metadata that have no value: a save must not lose them."""


def instance_row(value: Any, *, name_template: str, devices: Sequence[Mapping[str, Any]] = ()) -> Row:
    """Read an Instance; ``name_template`` is Nova's ``instance_name_template``.

    :raises Unreadable: it is none.
    """
    data = read(value, "Instance", VERSIONS["Instance"])
    uuid, number = _text(data, "uuid"), field(data, "id", "Instance")
    system_metadata = field(data, "system_metadata", "Instance") or {}
    try:
        instance = Instance(
            uuid=uuid.lower(),
            host=field(data, "host", "Instance"),
            vm_state=vm_state(data["vm_state"] or ""),
            task_state=task_state(data["task_state"]),
            power_state=power_state(data["power_state"]),
            node=data["node"],
            name=_name(name_template, data),
            display_name=data["display_name"] or "",
            project_id=data["project_id"],
            user_id=data["user_id"],
            metadata=_texts(data["metadata"]),
            system_metadata=_texts(system_metadata),
            network_info=_network_info(data.get("info_cache")),
            block_devices=JsonSequence(to_json([without_credentials(device) for device in devices])),
            shutdown_terminate=bool(data["shutdown_terminate"]),
            terminated_at=data["terminated_at"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreadable(
            f"the Instance {uuid} in the answer cannot be read: {type(error).__name__}: {error}"
        ) from error
    return Row(instance, number, tuple(key for key, text in system_metadata.items() if text is None))


@dataclass(frozen=True, slots=True)
class Look:
    """What decides whether a guest may be started: whose its instance is, and what is being done to it."""

    uuid: str
    host: str | None
    vm_state: VmState | UnknownState
    task_state: TaskState | UnknownState | None


def look(value: Any) -> Look:
    """Read that of an Instance.

    :raises Unreadable: it is none.
    """
    data = read(value, "Instance", VERSIONS["Instance"])
    host, vm, task = (field(data, key, "Instance") for key in ("host", "vm_state", "task_state"))
    return Look(_text(data, "uuid").lower(), host, vm_state(vm or ""), task_state(task))


def migration(data: Mapping[str, Any]) -> Migration:
    """Read the fields of a Migration.

    :raises Unreadable: one is missing.
    """
    return Migration(
        uuid=_text(data, "uuid", "Migration").lower(),
        instance_uuid=_text(data, "instance_uuid", "Migration").lower(),
        migration_type=field(data, "migration_type", "Migration") or "",
        status=field(data, "status", "Migration") or "",
        source_compute=field(data, "source_compute", "Migration") or "",
        dest_compute=field(data, "dest_compute", "Migration"),
        updated_at=_seconds(data.get("updated_at") or data.get("created_at")),
    )


def _seconds(text: Any) -> float | None:
    """Give a time of Nova, which is UTC, in seconds since 1970; None where there is none."""
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def devices_by_instance(devices: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Sort block device mappings by the UUID of their instance, in the order in which Nova made them."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for device in sorted(devices, key=lambda each: field(each, "id", "BlockDeviceMapping")):
        found.setdefault(_text(device, "instance_uuid", "BlockDeviceMapping").lower(), []).append(device)
    return found


def _text(data: Mapping[str, Any], key: str, of: str = "Instance") -> str:
    value = field(data, key, of)
    if not isinstance(value, str):
        raise Unreadable(f"a {of} in the answer has {key} {value!r}, which is no text")
    return value


def _texts(pairs: Mapping[str, str | None] | None) -> dict[str, str]:
    return {key: text for key, text in (pairs or {}).items() if text is not None}


def _network_info(cache: Any) -> JsonSequence:
    """Give the VIFs of an info cache; none where there is no cache, or it was never filled."""
    text = None if cache is None else field(read(cache, INFO_CACHE, VERSIONS[INFO_CACHE]), "network_info", INFO_CACHE)
    if not text:
        return JsonSequence("[]")
    vifs = json.loads(text)
    if not isinstance(vifs, list) or not all(isinstance(vif, dict) for vif in vifs):
        raise ValueError("network_info is no list of objects")
    return JsonSequence(text)


def _name(template: str, data: Mapping[str, Any]) -> str:
    """Give the name that the hypervisor knows a guest by (``Instance.name``): by number, or by any field."""
    try:
        return str(template % data["id"])
    except TypeError:
        try:
            return str(template % data)
        except KeyError:
            return str(data["uuid"])
