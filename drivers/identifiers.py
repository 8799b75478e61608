"""Identifiers that become a path, a pattern of files, a word of nft or a call of libvirt: checked here.  Pure.

Of a UUID only the canonical spelling is accepted: 32 hexadecimal digits in lower case with dashes.  Only the functions
here make an :data:`InstanceUuid`, so code that receives one need not check it again.
"""

import re
from typing import Final, NewType, TypeGuard
from uuid import UUID

from bringup.drivers.bounded_repr import bounded_repr

InstanceUuid = NewType("InstanceUuid", str)
"""A UUID in its canonical spelling."""
_CANONICAL: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_DIGITS: Final = re.compile(r"[0-9a-f]{32}")
# What Linux accepts, less what nft and ovs-vsctl would need in quotes.
DEVICE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
NAME_TEMPLATE: Final = "instance-%08x"
"""Nova's default ``instance_name_template``: an instance's number becomes the hypervisor's name for the guest."""


def canonical_uuid(value: object) -> InstanceUuid:
    """Return a UUID in its canonical spelling; upper case is converted.

    Raises ``ValueError`` for anything else: text that only Python takes for one (braces, ``urn:uuid:``) too.
    """
    if isinstance(value, str) and _CANONICAL.fullmatch(lowered := value.lower()) and value.isascii():
        return InstanceUuid(lowered)
    raise ValueError(f"{bounded_repr(value)} is no UUID")


def uuid_in_any_spelling(text: str) -> InstanceUuid:
    """Return a UUID as an operator or a file may spell it: in capitals, without dashes, in braces, as ``urn:uuid:``.

    Raises ``ValueError`` for anything else; :class:`uuid.UUID` by itself takes signs, ``0x``, underscores, white space
    and digits of other scripts for parts of one.
    """
    digits = text.lower().removeprefix("urn:uuid:").strip("{}").replace("-", "")
    if _DIGITS.fullmatch(digits):
        return InstanceUuid(str(UUID(digits)))
    raise ValueError(f"{bounded_repr(text)} is no UUID")


def is_device_name(value: object) -> TypeGuard[str]:
    """Check whether a value is the name of a network device: at most 15 letters, digits, ``_``, ``.`` and ``-``."""
    return isinstance(value, str) and DEVICE_NAME.fullmatch(value) is not None
