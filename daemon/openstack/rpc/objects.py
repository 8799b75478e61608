"""Primitives of Nova's versioned objects (``oslo.versionedobjects``), built and parsed.  Pure.

A primitive names its object, the version that it was written in, and its fields.  A server writes the version that it
is asked for; what has another major version, or another name, is not read.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from bringup.daemon.openstack.rpc.errors import Unreadable
from bringup.drivers.bounded_repr import bounded_repr

NAME = "nova_object.name"
NAMESPACE = "nova_object.namespace"
VERSION = "nova_object.version"
DATA = "nova_object.data"
CHANGES = "nova_object.changes"
_WORD: Final = re.compile(r"[\w.]{1,60}", re.ASCII)
_INT64: Final = 2**63
LONGEST_NAME: Final = 255
"""Length of Nova's columns for names and states."""


def primitive(name: str, version: str, data: Mapping[str, Any], changes: Sequence[str] = ()) -> dict[str, Any]:
    """Build the primitive of an object; ``changes`` are the fields that a save writes."""
    written: dict[str, Any] = {NAME: name, NAMESPACE: "nova", VERSION: version, DATA: dict(data)}
    if changes:
        written[CHANGES] = list(changes)
    return written


def read(value: Any, name: str, version: str) -> Mapping[str, Any]:
    """Return the fields of an object, which must have the major version of ``version``.

    :raises Unreadable: it is another object, has another version, or is none.
    """
    if not isinstance(value, Mapping) or value.get(NAME) != name:
        what = _word(value.get(NAME)) if isinstance(value, Mapping) else type(value).__name__
        raise Unreadable(f"the answer is {what}, where a {name} was asked for")
    found, data = value.get(VERSION), value.get(DATA)
    major = version.partition(".")[0]
    if not isinstance(found, str) or found.partition(".")[0] != major:
        raise Unreadable(
            f"the answer is a {name} of version {_word(found)}, where {version} was asked for and {major}.x is read"
        )
    if not isinstance(data, Mapping):
        raise Unreadable(f"the {name} of version {_word(found)} in the answer has no fields")
    return data


def _word(value: Any) -> str:
    """Return a name or a version as text, and any other value bounded and printable."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else bounded_repr(value)


def read_each(value: Any, name: str, item: str, versions: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """Return the fields of each object of a list; an unreadable one has none.

    :raises Unreadable: the list itself cannot be read.
    """
    objects = read(value, name, versions[name]).get("objects")
    if not isinstance(objects, Sequence) or isinstance(objects, str):
        raise Unreadable(f"the {name} in the answer has no objects")
    found: list[Mapping[str, Any]] = []
    for each in objects:
        try:
            found.append(read(each, item, versions[item]))
        except Unreadable:
            data = each.get(DATA) if isinstance(each, Mapping) else None
            # Its instance may still be known.
            known = data.get("instance_uuid") if isinstance(data, Mapping) else None
            found.append({"instance_uuid": known})
    return found


def field(data: Mapping[str, Any], key: str, of: str) -> Any:
    """Return a required field.

    :raises Unreadable: it is missing.
    """
    try:
        return data[key]
    except KeyError as error:
        raise Unreadable(f"a {of} in the answer has no field {key}") from error


def number_of(data: Mapping[str, Any], key: str, of: str) -> int:
    """Return a required field that is the number of a row.

    :raises Unreadable: it is missing, or not a number.
    """
    found = field(data, key, of)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < _INT64:
        raise Unreadable(f"a {of} in the answer has {key} {bounded_repr(found)}, which is no number of a row")
    return found


def name_of(data: Mapping[str, Any], key: str, of: str) -> str | None:
    """Return the name of a host, a type or a state; None where it is null.

    :raises Unreadable: it is missing, not text, or longer than a column.
    """
    found = field(data, key, of)
    if found is None:
        return None
    if not isinstance(found, str):
        raise Unreadable(f"a {of} in the answer has {key} of another type than text")
    if len(found) > LONGEST_NAME or not _is_unicode(found):
        raise Unreadable(f"a {of} in the answer has {key} {bounded_repr(found)}, which is no text of Nova's")
    return found


def _is_unicode(text: str) -> bool:
    """Check whether a text can be encoded: half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
