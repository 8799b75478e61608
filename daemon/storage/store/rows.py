"""Rows to records and back.  Pure: no connection is used here."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

from bringup.daemon.decisions.instances import Changes, Instance, Migration
from bringup.drivers.volume_identity import without_credentials


def to_json(value: object) -> str:
    """Write a value as the store keeps it."""
    return json.dumps(value, separators=(",", ":"))


class JsonSequence(Sequence[Mapping[str, Any]]):
    """A JSON array of objects that is parsed at each look and keeps no parsed copy.

    Ten thousand instances stay in memory for a whole run, each is looked at for a moment; the text takes a tenth of
    what the parsed objects do.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Take the text of a JSON array of objects."""
        self._text = text

    def _parsed(self) -> list[dict[str, Any]]:
        parsed: list[dict[str, Any]] = json.loads(self._text)
        return parsed

    def __len__(self) -> int:
        """Count the objects."""
        return 0 if self._text == "[]" else len(self._parsed())

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> Mapping[str, Any] | Sequence[Mapping[str, Any]]:
        """Parse, and give one object or some."""
        return self._parsed()[index]

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """Parse once, and give the objects."""
        return iter(self._parsed())

    def __eq__(self, other: object) -> bool:
        """Compare with any sequence, as a list would with a list."""
        if isinstance(other, JsonSequence) and other._text == self._text:
            return True
        if isinstance(other, Sequence) and not isinstance(other, str | bytes):
            return self._parsed() == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Show the text."""
        return f"JsonSequence({self._text})"


def text_of(sequence: Sequence[Mapping[str, Any]]) -> str:
    """Write a sequence of JSON objects as the store keeps it."""
    if isinstance(sequence, JsonSequence):
        return sequence._text  # noqa: SLF001 - the class is of this file
    return to_json([dict(entry) for entry in sequence])


def instance_row(instance: Instance) -> dict[str, Any]:
    """Give the row of ``instances``."""
    task_state, power_state = instance.task_state, instance.power_state
    return {
        "uuid": instance.uuid.lower(),
        "host": instance.host,
        "node": instance.node,
        "vm_state": instance.vm_state.value,
        "task_state": None if task_state is None else task_state.value,
        "power_state": None if power_state is None else power_state.value,
        "name": instance.name,
        "display_name": instance.display_name,
        "project_id": instance.project_id,
        "user_id": instance.user_id,
        "flavor": to_json(dict(instance.flavor)),
        "shutdown_terminate": instance.shutdown_terminate,
        "terminated_at": instance.terminated_at,
        "deleted": 0,
    }


def metadata_rows(uuid: str, metadata: Mapping[str, str]) -> list[dict[str, Any]]:
    """Give the rows of ``instance_metadata`` or ``instance_system_metadata``."""
    return [{"instance_uuid": uuid, "key": key, "value": value} for key, value in metadata.items()]


def block_device_rows(uuid: str, block_devices: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give the rows of ``block_device_mapping``; keys and passwords of storage are written nowhere."""
    return [
        {"instance_uuid": uuid, "position": position, "device": to_json(without_credentials(device))}
        for position, device in enumerate(block_devices)
    ]


def migration_row(migration: Migration) -> dict[str, Any]:
    """Give the row of ``migrations``, without its number."""
    return {
        "uuid": migration.uuid.lower(),
        "instance_uuid": migration.instance_uuid.lower(),
        "migration_type": migration.migration_type,
        "status": migration.status,
        "source_compute": migration.source_compute,
        "dest_compute": migration.dest_compute,
    }


def changed_columns(changes: Changes) -> dict[str, str | int | None]:
    """Give the columns of ``instances`` that a save writes."""
    columns: dict[str, str | int | None] = {}
    if "vm_state" in changes:
        columns["vm_state"] = changes["vm_state"].value
    if "task_state" in changes:
        task_state = changes["task_state"]
        columns["task_state"] = None if task_state is None else task_state.value
    if "power_state" in changes:
        columns["power_state"] = changes["power_state"].value
    if "terminated_at" in changes:
        columns["terminated_at"] = changes["terminated_at"]
    return columns
