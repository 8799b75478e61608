"""Decoding of nova-conductor's objects into records.

What a record has no place for is not kept: it is never written back either, since a save names its fields.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import NAMESPACE_OID, uuid5

from pydantic import ValidationError

from bringup.daemon.decisions.instances import Instance, Migration, UnreadableInstance
from bringup.daemon.decisions.pace_keys import PACE_KEYS
from bringup.daemon.decisions.states import TaskState, UnknownState, VmState, power_state, task_state, vm_state
from bringup.daemon.logs import get_logger
from bringup.daemon.openstack.rpc.errors import Unreadable
from bringup.daemon.openstack.rpc.objects import DATA, field, name_of, number_of, read
from bringup.daemon.storage.record_files.own import InstanceFields
from bringup.daemon.storage.record_files.problems import sentences_of
from bringup.daemon.storage.store.rows import JsonSequence, to_json
from bringup.daemon.text import printable
from bringup.drivers.bounded_repr import bounded_repr
from bringup.drivers.identifiers import canonical_uuid
from bringup.drivers.volume_identity import without_credentials

log = get_logger()

INFO_CACHE = "InstanceInfoCache"
FLAVOR = "Flavor"
NO_STATE: Final = "unreadable"
_LONGEST_REASON: Final = 300
TWO_ROWS: Final = "there are two rows of it in the answer"

# The lowest versions that have what is read here.  nova.objects tells them apart: what a later one adds is not used.
VERSIONS: Mapping[str, str] = {
    "InstanceList": "2.0",
    "Instance": "2.0",
    INFO_CACHE: "1.5",
    FLAVOR: "1.1",
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
"""Fields that are loaded in the same request as an instance."""


@dataclass(frozen=True, slots=True)
class Row:
    """An instance, and the fields that a later write needs."""

    instance: Instance
    number: int
    """Nova's ``id``."""
    valueless: tuple[str, ...]
    """Keys of its system metadata without a value: a save must keep them."""
    flavor_number: int | None = None
    """Nova's ``instance_type_id``; None: it has none that can be read."""


def instance_row(value: Any, *, name_template: str, devices: Sequence[Mapping[str, Any]] = ()) -> Row:
    """Read an Instance; ``name_template`` is Nova's ``instance_name_template``.

    :raises Unreadable: it is not a valid object.
    """
    data = read(value, "Instance", VERSIONS["Instance"])
    uuid = _uuid(data, "uuid")
    system_metadata = field(data, "system_metadata", "Instance") or {}
    try:
        return _checked_row(data, name_template, devices, system_metadata)
    except ValidationError as error:
        raise Unreadable(f"the Instance {uuid} in the answer cannot be read: {sentences_of(error)}") from None
    except (LookupError, TypeError, ArithmeticError, ValueError, AttributeError, RecursionError) as error:
        reason = printable(f"{type(error).__name__}: {error}")[:_LONGEST_REASON]
        raise Unreadable(f"the Instance {uuid} in the answer cannot be read: {reason}") from error


def _checked_row(
    data: Mapping[str, Any], name_template: str, devices: Sequence[Mapping[str, Any]], system_metadata: Any
) -> Row:
    """Build the record, with the checks of a record file.  Raises what a malformed row causes."""
    number, flavor_number = number_of(data, "id", "Instance"), data.get("instance_type_id")
    text, vifs = _network_info(data.get("info_cache"))
    kept = [without_credentials(device) for device in devices]
    own = _validated(data, name=_name(name_template, data), system_metadata=system_metadata, vifs=vifs, kept=kept)
    # Half of a surrogate pair in any of their texts would fail when it is written.
    json.dumps((vifs, kept), ensure_ascii=False).encode()
    instance = Instance(
        uuid=canonical_uuid(data["uuid"]),
        host=own.host,
        vm_state=vm_state(own.vm_state if data["vm_state"] else ""),
        task_state=task_state(own.task_state),
        power_state=power_state(own.power_state),
        node=own.node,
        name=own.name,
        display_name=own.display_name,
        project_id=own.project_id,
        user_id=own.user_id,
        metadata=own.metadata,
        system_metadata=own.system_metadata,
        network_info=JsonSequence(text),
        block_devices=JsonSequence(to_json(kept)),
        shutdown_terminate=own.shutdown_terminate,
        terminated_at=own.terminated_at,
    )
    return Row(
        instance,
        number,
        tuple(key for key, value in system_metadata.items() if value is None),
        flavor_number if isinstance(flavor_number, int) else None,
    )


def _validated(
    data: Mapping[str, Any], *, name: str, system_metadata: Any, vifs: Sequence[Any], kept: Sequence[Any]
) -> InstanceFields:
    return InstanceFields.model_validate(
        {
            "uuid": data["uuid"],
            "host": field(data, "host", "Instance"),
            "vm_state": data["vm_state"] or NO_STATE,
            "task_state": data["task_state"] or None,
            "power_state": data["power_state"],
            "node": data["node"],
            "name": name,
            "display_name": data["display_name"] or "",
            "project_id": data["project_id"],
            "user_id": data["user_id"],
            "metadata": _texts(data["metadata"]),
            "system_metadata": _texts(system_metadata),
            "network_info": vifs,
            "block_devices": kept,
            "shutdown_terminate": _is_set(data["shutdown_terminate"]),
            "terminated_at": data["terminated_at"],
        }
    )


def flavor_of(value: Any) -> dict[str, Any]:
    """Return the name, the id and our own extra specs of the flavor of an Instance.

    It orders only: one that cannot be read has none.
    """
    try:
        data = read(read(value, "Instance", VERSIONS["Instance"]).get("flavor"), FLAVOR, VERSIONS[FLAVOR])
    except Unreadable:
        return {}
    specs = data.get("extra_specs")
    found = {key: text for key in ("name", "flavorid") if isinstance(text := data.get(key), str)}
    own = (
        {key: specs[key] for key in PACE_KEYS if isinstance(specs.get(key), str)} if isinstance(specs, Mapping) else {}
    )
    return {**found, "extra_specs": own}


def names_an_instance(value: Any) -> bool:
    """Check whether this is the row of an instance: one without a UUID answers another request."""
    data = value.get(DATA) if isinstance(value, Mapping) else None
    return isinstance(data, Mapping) and data.get("uuid") is not None


def unreadable(value: Any, why: Unreadable) -> UnreadableInstance:
    """Return the substitute of a row that cannot be read; an invalid UUID is replaced by one derived from it."""
    data = value.get(DATA) if isinstance(value, Mapping) else None
    found = data if isinstance(data, Mapping) else {}
    uuid = uuid_of(value) or str(uuid5(NAMESPACE_OID, f"bringup:{bounded_repr(found.get('uuid'))}"))
    host = found.get("host")
    known = isinstance(host, str) and host.isprintable() and host.isascii() and host != ""
    return UnreadableInstance(
        uuid=uuid, host=host if known else None, vm_state=UnknownState(NO_STATE), why=printable(str(why))
    )


def without_duplicates(found: Iterable[Instance]) -> list[Instance]:
    """Return each instance once, sorted by UUID; of two rows that differ it is unknown which is right."""
    kept: dict[str, Instance] = {}
    for each in found:
        other = kept.setdefault(each.uuid, each)
        if other != each:
            host = each.host if each.host == other.host else None
            state = UnknownState(NO_STATE)
            kept[each.uuid] = UnreadableInstance(uuid=each.uuid, host=host, vm_state=state, why=TWO_ROWS)
    return sorted(kept.values(), key=lambda each: each.uuid)


def uuid_of(value: Any) -> str | None:
    """Return the UUID of an object in its canonical spelling; None where there is none that can be read."""
    data = value.get(DATA) if isinstance(value, Mapping) else None
    try:
        return canonical_uuid(data.get("uuid") if isinstance(data, Mapping) else None)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class RecordState:
    """The fields of a record that decide whether a guest may be started: host and states."""

    uuid: str
    host: str | None
    vm_state: VmState | UnknownState
    task_state: TaskState | UnknownState | None


def record_state(value: Any) -> RecordState:
    """Parse the state of an Instance.

    :raises Unreadable: it is not a valid object.
    """
    data = read(value, "Instance", VERSIONS["Instance"])
    host, vm, task = (name_of(data, key, "Instance") for key in ("host", "vm_state", "task_state"))
    return RecordState(_uuid(data, "uuid"), host, vm_state(vm or ""), task_state(task))


def record_states_by_instance(rows: Iterable[Any]) -> tuple[dict[str, RecordState | Unreadable], Unreadable | None]:
    """Parse the state of each Instance, by UUID; also return the error of a row without a valid UUID."""
    looks: dict[str, RecordState | Unreadable] = {}
    unreadable_row: Unreadable | None = None
    for row in rows:
        try:
            found = record_state(row)
        except Unreadable as error:
            uuid = uuid_of(row)
            if uuid is None:
                unreadable_row = error
            else:
                looks[uuid] = error
        else:
            if looks.setdefault(found.uuid, found) != found:
                looks[found.uuid] = Unreadable(TWO_ROWS)
    return looks, unreadable_row


def migration(data: Mapping[str, Any]) -> Migration:
    """Parse the fields of a Migration.

    :raises Unreadable: one is missing.
    """
    return Migration(
        uuid=_uuid(data, "uuid", "Migration"),
        instance_uuid=_uuid(data, "instance_uuid", "Migration"),
        migration_type=name_of(data, "migration_type", "Migration") or "",
        status=name_of(data, "status", "Migration") or "",
        source_compute=name_of(data, "source_compute", "Migration") or "",
        dest_compute=name_of(data, "dest_compute", "Migration"),
        updated_at=_seconds(data.get("updated_at") or data.get("created_at")),
    )


def _is_set(value: Any) -> bool:
    """Parse ``shutdown_terminate``: where it is true an instance is deleted when its guest shuts down."""
    if value is None or (isinstance(value, int) and value in {0, 1}):
        return bool(value)
    raise TypeError(f"its shutdown_terminate {bounded_repr(value)} is neither true nor false")


def _seconds(text: Any) -> float | None:
    """Return a time of Nova (UTC) in seconds since 1970; None where there is none."""
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def devices_by_instance(devices: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Group block device mappings by the UUID of their instance, in the order in which Nova created them."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for device in sorted(devices, key=lambda each: number_of(each, "id", "BlockDeviceMapping")):
        found.setdefault(_uuid(device, "instance_uuid", "BlockDeviceMapping"), []).append(device)
    return found


def rows_by_instance(
    items: Iterable[Mapping[str, Any]], of: str, key: str = "instance_uuid"
) -> dict[str, list[Mapping[str, Any]]]:
    """Group rows by the UUID of their instance; a row without one is ignored and logged."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for item in items:
        try:
            found.setdefault(_uuid(item, key, of), []).append(item)
        except Unreadable as error:
            log.error("store.row_ignored", error=printable(str(error)))  # noqa: TRY400 - a sentence, no traceback
    return found


def _uuid(data: Mapping[str, Any], key: str, of: str = "Instance") -> str:
    value = field(data, key, of)
    try:
        return canonical_uuid(value)
    except ValueError:
        raise Unreadable(f"a {of} in the answer has {key} {bounded_repr(value)}, which is no UUID") from None


def _texts(pairs: Mapping[str, str | None] | None) -> dict[str, str]:
    return {key: text for key, text in (pairs or {}).items() if text is not None}


def _network_info(cache: Any) -> tuple[str, list[Any]]:
    """Return the VIFs of an info cache, as text and parsed; none where the cache is missing or empty."""
    text = None if cache is None else field(read(cache, INFO_CACHE, VERSIONS[INFO_CACHE]), "network_info", INFO_CACHE)
    if not text:
        return "[]", []
    if not isinstance(text, str):
        raise TypeError("network_info is no text")
    vifs = json.loads(text)
    if not isinstance(vifs, list) or not all(isinstance(vif, dict) for vif in vifs):
        raise ValueError("network_info is no list of objects")
    return text, vifs


def _name(template: str, data: Mapping[str, Any]) -> str:
    """Return the hypervisor's name for a guest (``Instance.name``), from its number or any field."""
    try:
        return str(template % data["id"])
    except TypeError:
        try:
            return str(template % data)
        except KeyError:
            return str(data["uuid"])
