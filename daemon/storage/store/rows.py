"""Rows of our own tables: built from records, and parsed into records.  Pure: no connection is used here.

A row is checked as a record of a file is: an operator or a failing disk may have put anything there.  A row that cannot
be read is the outcome of its own instance, an :class:`UnreadableInstance`, and not an error of all.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, overload
from uuid import NAMESPACE_OID, uuid5

from bringup.daemon.decisions.instances import UNREADABLE, Changes, Instance, Migration, UnreadableInstance
from bringup.daemon.decisions.states import UnknownState, power_state, task_state, vm_state
from bringup.daemon.storage.record_files.problems import MOST_LEVELS, not_too_deep
from bringup.daemon.text import printable
from bringup.drivers.identifiers import canonical_uuid
from bringup.drivers.volume_identity import without_credentials


def to_json(value: object) -> str:
    """Return a value as the store keeps it."""
    return json.dumps(value, separators=(",", ":"))


class JsonSequence(Sequence[Mapping[str, Any]]):
    """A JSON array of objects that is parsed at each access and keeps no parsed copy.

    Ten thousand instances stay in memory for a whole run, each is read for a moment; the text takes a tenth of the
    memory of the parsed objects.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Store the text of a JSON array of objects."""
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
        """Parse, and return one object or some."""
        return self._parsed()[index]

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """Parse once, and yield the objects."""
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
        """Return the text."""
        return f"JsonSequence({self._text})"


def text_of(sequence: Sequence[Mapping[str, Any]]) -> str:
    """Return a sequence of JSON objects as the store keeps it."""
    if isinstance(sequence, JsonSequence):
        return sequence._text  # noqa: SLF001 - the class is of this file
    return to_json([dict(entry) for entry in sequence])


def instance_row(instance: Instance) -> dict[str, Any]:
    """Build the row of ``instances``."""
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
    """Build the rows of ``instance_metadata`` or ``instance_system_metadata``."""
    return [{"instance_uuid": uuid, "key": key, "value": value} for key, value in metadata.items()]


def block_device_rows(uuid: str, block_devices: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Build the rows of ``block_device_mapping``, without keys and passwords of storage."""
    return [
        {"instance_uuid": uuid, "position": position, "device": to_json(without_credentials(device))}
        for position, device in enumerate(block_devices)
    ]


def migration_row(migration: Migration) -> dict[str, Any]:
    """Build the row of ``migrations``, without its number."""
    return {
        "uuid": migration.uuid.lower(),
        "instance_uuid": migration.instance_uuid.lower(),
        "migration_type": migration.migration_type,
        "status": migration.status,
        "source_compute": migration.source_compute,
        "dest_compute": migration.dest_compute,
    }


def changed_columns(changes: Changes) -> dict[str, str | int | None]:
    """Return the columns of ``instances`` that a save writes."""
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


REMEDY: Final = "write it anew with bringup import, or correct the row in the database that store names"
_WRONG: Final = (ValueError, TypeError, AttributeError, LookupError, RecursionError)
_INT32: Final = 2**31
_SHOWN: Final = 300


def instance_of(
    row: Any, parts: Mapping[str, Any], flavor: Callable[[str], Mapping[str, Any]], share: Callable[[str], str]
) -> Instance:
    """Parse a row of ``instances``, with its columns of other tables."""
    try:
        return _read(row, parts, flavor, share)
    except _WRONG as error:
        return _unreadable(row, error)


def _read(
    row: Any, parts: Mapping[str, Any], flavor: Callable[[str], Mapping[str, Any]], share: Callable[[str], str]
) -> Instance:
    if canonical_uuid(row.uuid) != row.uuid:
        raise ValueError("its uuid is not in lower case")

    def text(name: str) -> str:
        return _text(getattr(row, name), name)

    def perhaps(name: str) -> str | None:
        return None if getattr(row, name) is None else share(text(name))

    number = row.power_state
    if number is not None and (not isinstance(number, int) or not -_INT32 <= number < _INT32):
        raise TypeError("its power_state is not a number of Nova's")
    # Anything that is not false would delete the instance when its guest shuts down.
    if not isinstance(row.shutdown_terminate, int) or row.shutdown_terminate not in {0, 1}:
        raise TypeError("its shutdown_terminate is neither true nor false")
    return Instance(
        uuid=row.uuid,
        host=perhaps("host"),
        node=perhaps("node"),
        vm_state=vm_state(text("vm_state")),
        task_state=task_state(perhaps("task_state")),
        power_state=power_state(number),
        name=text("name"),
        display_name=text("display_name"),
        project_id=perhaps("project_id"),
        user_id=perhaps("user_id"),
        flavor=flavor(text("flavor")),
        metadata=_pairs(parts["metadata"], "metadata"),
        system_metadata=_pairs(parts["system_metadata"], "system_metadata"),
        network_info=_objects(parts["network_info"], "network_info"),
        block_devices=_objects(parts["block_devices"], "block_devices"),
        shutdown_terminate=bool(row.shutdown_terminate),
        terminated_at=None if row.terminated_at is None else text("terminated_at"),
    )


def flavor_of(text: str) -> Mapping[str, Any]:
    """Parse a flavor.  Raises ``ValueError`` or ``RecursionError``."""
    found = _json(text, "flavor")
    if not isinstance(found, dict):
        raise TypeError("its flavor is not an object")
    return found


def migration_of(row: Any) -> Migration | None:
    """Parse a row of ``migrations``; of an unreadable one only its instance; None if that is unknown too."""
    facts = dict(row._mapping)  # noqa: SLF001 - its API
    try:
        owner = canonical_uuid(facts["instance_uuid"])
    except ValueError:
        return None
    try:
        for name, value in facts.items():
            if not (name == "dest_compute" and value is None):
                _text(value, name)
    except _WRONG:
        return Migration(uuid=owner, instance_uuid=owner, migration_type=UNREADABLE, status="", source_compute="")
    return Migration(**facts | {"instance_uuid": owner})


def _unreadable(row: Any, error: Exception) -> UnreadableInstance:
    """Return the stand-in of a row; if its UUID is not one, under one that is derived from it."""
    try:
        uuid: str = canonical_uuid(row.uuid)
    except ValueError:
        uuid = str(uuid5(NAMESPACE_OID, f"bringup:{ascii(row.uuid)[:_SHOWN]}"))
    host = row.host
    known = isinstance(host, str) and host.isprintable() and host != ""
    return UnreadableInstance(
        uuid=uuid,
        host=host if known else None,
        vm_state=UnknownState(UNREADABLE),
        why=f"its row in the store cannot be read: {printable(f'{error}')[:_SHOWN]}",
        remedy=REMEDY,
    )


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"its {name} is not text")
    if not value.isascii():
        # Half of a surrogate pair, or bytes that were not UTF-8, would fail every later write of it.
        _encodable(value, name)
    return value


def _encodable(text: str, name: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"its {name} is not text in UTF-8") from None


def _json(text: str, name: str) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"its {name} is not JSON") from None
    # Each level has its bracket, and to count them is quicker than to go through the levels.
    return found if text.count("[") + text.count("{") < MOST_LEVELS else not_too_deep(found)


def _pairs(pairs: Mapping[Any, Any], name: str) -> Mapping[str, str]:
    for each in (*pairs, *pairs.values()):
        _text(each, name)
    return pairs


def _objects(texts: Any, name: str) -> Sequence[Mapping[str, Any]]:
    """Return checked objects of JSON as text; ``texts`` is an array, or a list with the text of each."""
    if texts == "[]":
        return ()
    each_is_one = isinstance(texts, list)
    for each in texts if each_is_one else [texts]:
        _text(each, name)
    text = f"[{','.join(texts)}]" if each_is_one else texts
    found = _json(text, name)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError(f"its {name} is not a list of objects")
    if "\\ud" in text.lower():
        _encodable(json.dumps(found, ensure_ascii=False), name)
    return JsonSequence(text)
