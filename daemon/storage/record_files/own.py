"""Our own JSON, ``bringup.records/1``: every field of an instance and of a migration, states as Nova's words."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bringup.daemon.decisions.instances import Instance, Migration
from bringup.daemon.decisions.states import power_state, task_state, vm_state
from bringup.daemon.storage.record_files.problems import Objects, PowerNumber, RecordProblems, State, Text, Uuid, Word
from bringup.drivers.volume_identity import without_credentials

_HINTS = {
    "host": "the host that the instance is on, or null",
    "vm_state": "Nova's word, such as active",
    "uuid": "the UUID of the record",
}


class InstanceFields(BaseModel):
    """Fields of an instance in the file."""

    model_config = ConfigDict(strict=True, extra="forbid")

    uuid: Uuid
    host: Word | None
    vm_state: State
    task_state: State | None = None
    power_state: PowerNumber | None = None
    node: Text | None = None
    name: Text = ""
    display_name: Text = ""
    project_id: Text | None = None
    user_id: Text | None = None
    flavor: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[Text, Text] = Field(default_factory=dict)
    system_metadata: dict[Text, Text] = Field(default_factory=dict)
    network_info: Objects = Field(default_factory=list)
    block_devices: Objects = Field(default_factory=list)
    shutdown_terminate: bool = False
    terminated_at: Text | None = None


class MigrationFields(BaseModel):
    """Fields of a migration in the file."""

    model_config = ConfigDict(strict=True, extra="forbid")

    uuid: Uuid
    instance_uuid: Uuid
    # A misspelt type would not be matched, and an evacuated guest would run twice.
    migration_type: Literal["evacuation", "live-migration", "migration", "resize"]
    status: Word
    source_compute: Word
    dest_compute: Word | None = None


def instance(data: Any, where: str, problems: RecordProblems) -> Instance | None:
    """Parse one of ``instances``; None if it is wrong."""
    try:
        found = InstanceFields.model_validate(data)
    except ValidationError as error:
        problems.add_invalid(where, error, _HINTS)
        return None
    plain = dict(found)
    plain["network_info"] = tuple(found.network_info)
    plain["block_devices"] = tuple(without_credentials(device) for device in found.block_devices)
    plain["vm_state"] = vm_state(found.vm_state)
    plain["task_state"] = task_state(found.task_state)
    plain["power_state"] = power_state(found.power_state)
    return Instance(**plain)


def migration(data: Any, where: str, problems: RecordProblems) -> Migration | None:
    """Parse one of ``migrations``; None if it is wrong."""
    try:
        return Migration(**dict(MigrationFields.model_validate(data)))
    except ValidationError as error:
        problems.add_invalid(where, error, _HINTS)
        return None
