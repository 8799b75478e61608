"""A row of our own tables, checked as one of a file is: a hand or a disk may have put anything there.  Pure.

A row that cannot be read is the outcome of its own instance: an :class:`UnreadableInstance`, and no error of all.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import NAMESPACE_OID, uuid5

from bringup.daemon.decisions.instances import UNREADABLE, Instance, Migration, UnreadableInstance
from bringup.daemon.decisions.states import UnknownState, power_state, task_state, vm_state
from bringup.daemon.storage.record_files.fields import not_too_deep
from bringup.daemon.storage.store.rows import JsonSequence
from bringup.daemon.text import printable
from bringup.drivers.identifiers import canonical_uuid

MEND: Final = "write it anew with bringup import, or put the row right in the database that store names"
_WRONG: Final = (ValueError, TypeError, AttributeError, LookupError, RecursionError)
_INT32: Final = 2**31
_SHOWN: Final = 300


def instance_of(
    row: Any, parts: Mapping[str, Any], flavor: Callable[[str], Mapping[str, Any]], share: Callable[[str], str]
) -> Instance:
    """Read a row of ``instances``, with what other tables hold of it."""
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
        raise TypeError("its power_state is no number of Nova's")
    # Whatever is not false would have the instance deleted when its guest shuts down.
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
    """Read a flavor.  Raises ``ValueError`` or ``RecursionError``."""
    found = not_too_deep(_json(text, "flavor"))
    if not isinstance(found, dict):
        raise TypeError("its flavor is no object")
    return found


def migration_of(row: Any) -> Migration | None:
    """Read a row of ``migrations``; of one that cannot be, whose it is; None where that is not known either."""
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
    """Give what stands for a row; where its UUID is none, under one that is made of it."""
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
        mend=MEND,
    )


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"its {name} is no text")
    if not value.isascii():
        # Half of a surrogate pair, or bytes that were no UTF-8, would fail whoever writes it down.
        _encodable(value, name)
    return value


def _encodable(text: str, name: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"its {name} is no text in UTF-8") from None


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"its {name} is no JSON") from None


def _pairs(pairs: Mapping[Any, Any], name: str) -> Mapping[str, str]:
    for each in (*pairs, *pairs.values()):
        _text(each, name)
    return pairs


def _objects(texts: Any, name: str) -> Sequence[Mapping[str, Any]]:
    """Give objects of JSON as text that is known to be good: an array, or a list of the text of each."""
    if texts == "[]":
        return ()
    each_is_one = isinstance(texts, list)
    for each in texts if each_is_one else [texts]:
        _text(each, name)
    text = f"[{','.join(texts)}]" if each_is_one else texts
    found = not_too_deep(_json(text, name))
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError(f"its {name} is no list of objects")
    if "\\ud" in text.lower():
        _encodable(json.dumps(found, ensure_ascii=False), name)
    return JsonSequence(text)
