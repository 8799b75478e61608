"""The UUID of an instance as it may become a path, a pattern of files, a word of nft or a call of libvirt.

Only the canonical spelling does: 32 hexadecimal digits in lower case with dashes.  There is no other way to make one
than the functions here, so whoever is given an :data:`InstanceUuid` need not look.  Pure.
"""

import re
from typing import Final, NewType
from uuid import UUID

from bringup.drivers.shown import shown

InstanceUuid = NewType("InstanceUuid", str)
"""A UUID in its canonical spelling."""
_CANONICAL: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_DIGITS: Final = re.compile(r"[0-9a-f]{32}")


def canonical_uuid(value: object) -> InstanceUuid:
    """Give a UUID in its canonical spelling; upper case is put right.

    Raises ``ValueError`` for anything else: text that only Python takes for one (braces, ``urn:uuid:``) too.
    """
    if isinstance(value, str) and _CANONICAL.fullmatch(lowered := value.lower()) and value.isascii():
        return InstanceUuid(lowered)
    raise ValueError(f"{shown(value)} is no UUID")


def uuid_in_any_spelling(text: str) -> InstanceUuid:
    """Give a UUID as a person or a file may spell it: in capitals, without dashes, in braces, as ``urn:uuid:``.

    Raises ``ValueError`` for anything else; :class:`uuid.UUID` by itself takes signs, ``0x``, underscores, white space
    and digits of other scripts for parts of one.
    """
    digits = text.lower().removeprefix("urn:uuid:").strip("{}").replace("-", "")
    if _DIGITS.fullmatch(digits):
        return InstanceUuid(str(UUID(digits)))
    raise ValueError(f"{shown(text)} is no UUID")
