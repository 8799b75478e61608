"""What the header of a qcow2 image says that it is made of.  Pure.

Only of an image that its definition calls qcow2: what a raw one begins with is the guest's to choose.
"""

import struct
from dataclasses import dataclass
from typing import Final

MAGIC: Final = b"QFI\xfb"
LONGEST_NAME: Final = 1023
_BACKING_FORMAT: Final = 0xE2792ACA
_DATA_FILE: Final = 0x44415441
_OLD_HEADER: Final = 72
_LONG_HEADER: Final = 104


@dataclass(frozen=True, slots=True)
class Header:
    """What it is made of beside itself."""

    backing: str = ""
    backing_format: str = ""
    data_file: str = ""


def read_header(start: bytes) -> Header | None:
    """Read the beginning of an image; None: it is no qcow2."""
    if not start.startswith(MAGIC) or len(start) < _OLD_HEADER:
        return None
    version, offset, size = struct.unpack_from(">IQI", start, 4)
    name = start[offset : offset + size] if 0 < size <= LONGEST_NAME else b""
    is_long = version >= 3 and len(start) >= _LONG_HEADER  # noqa: PLR2004 - since version 3 it has a length
    extensions = dict(_extensions(start, struct.unpack_from(">I", start, 100)[0] if is_long else _OLD_HEADER))
    return Header(
        backing=name.decode(errors="replace"),
        backing_format=extensions.get(_BACKING_FORMAT, b"").decode(errors="replace"),
        data_file=extensions.get(_DATA_FILE, b"").decode(errors="replace"),
    )


def _extensions(start: bytes, place: int) -> list[tuple[int, bytes]]:
    found = []
    while 0 < place <= len(start) - 8:
        kind, length = struct.unpack_from(">II", start, place)
        if kind == 0:
            break
        found.append((kind, start[place + 8 : place + 8 + length]))
        place += 8 + (length + 7) // 8 * 8
    return found
