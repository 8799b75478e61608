"""What the header of a qcow2 image says that it is made of.  Pure.

Only of an image that its definition calls qcow2: what a raw one begins with is the guest's to choose.
"""

import json
import struct
from dataclasses import dataclass
from typing import Any, Final

from bringup.drivers.libvirt.needed.definition import Server, Source

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


def source_of(name: str, form: str, image: str) -> Source:
    """Read the name of a backing file as QEMU does, beside the image that names it."""
    if name.startswith("json:"):
        return _from_json(name.removeprefix("json:"), form)
    protocol, colon, rest = name.partition(":")
    if colon and "/" not in protocol:
        if protocol in ("file", "host_device"):
            name = rest
        else:
            return Source(
                type="network", protocol=protocol.partition("+")[0], name=rest.rpartition("@")[2], format=form
            )
    path = name if name.startswith("/") else f"{image.rpartition('/')[0]}/{name}"
    return Source(type="file", path=path, format=form)


def _from_json(text: str, form: str) -> Source:
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError):
        return Source(type="unknown")
    for _ in range(4):
        inner = data.get("file") if isinstance(data, dict) else None
        if not isinstance(inner, dict):
            break
        form = form or str(data.get("driver", ""))
        data = inner
    if not isinstance(data, dict):
        return Source(type="unknown")
    driver = str(data.get("driver") or data.get("file.driver") or "")
    path = data.get("filename") or data.get("file.filename")
    if driver in ("file", "host_device", "") and isinstance(path, str) and path.startswith("/"):
        return Source(type="file", path=path, format=form)
    server = data.get("server")
    servers = (Server(name=str(server.get("host", "")), socket=server.get("path")),) if isinstance(server, dict) else ()
    return Source(type="network" if driver else "unknown", protocol=driver, servers=servers)
