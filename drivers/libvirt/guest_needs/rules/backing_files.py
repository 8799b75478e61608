"""Backing files: the header of a qcow2 image, and the names in it, parsed as QEMU does.  Pure.

A header is read only from an image that its definition calls qcow2: the guest chooses the first bytes of a raw one.
A name that is not certain here is ``unknown``: what QEMU may open as a device must not pass for a server's.
"""

import json
import re
import struct
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from bringup.drivers.libvirt.guest_needs.rules.definition import Server, Source
from bringup.drivers.libvirt.guest_needs.rules.xml_values import number

MAGIC: Final = b"QFI\xfb"
LONGEST_NAME: Final = 1023
_BACKING_FORMAT: Final = 0xE2792ACA
_DATA_FILE: Final = 0x44415441
_OLD_HEADER: Final = 72
_LONG_HEADER: Final = 104


@dataclass(frozen=True, slots=True)
class Header:
    """Other files of an image."""

    backing: str = ""
    backing_format: str = ""
    data_file: str = ""


def read_header(start: bytes) -> Header | None:
    """Parse the beginning of an image; None: it is no qcow2."""
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


PROTOCOLS: Final = frozenset(
    {"rbd", "nbd", "iscsi", "iser", "gluster", "http", "https", "ftp", "ftps", "ssh", "nfs", "sheepdog"}
)
"""Protocols of servers; any other, such as ``blkdebug``, ``fat`` or ``quorum``, may be a device of this host."""
PATHS: Final = frozenset({"file", "host_device", "host_cdrom"})
FORMATS: Final = frozenset(
    {"raw", "qcow2", "qcow", "qed", "vmdk", "vdi", "vhdx", "vpc", "parallels", "luks", "copy-on-read", "throttle"}
)
"""Layers over one file, their ``file``."""
OTHER_PARTS: Final = frozenset({"backing", "data-file"})
MOST_LAYERS: Final = 5
_UNKNOWN: Final = Source(type="unknown")


def source_of(name: str, form: str, image: str) -> Source:
    """Parse the name of a backing file, relative to the image that names it."""
    if name.startswith("json:"):
        return _from_json(name.removeprefix("json:"), form)
    protocol, colon, rest = name.partition(":")
    if not colon or "/" in protocol:
        path = name if name.startswith("/") else f"{image.rpartition('/')[0]}/{name}"
        return Source(type="file", path=path, format=form)
    if protocol in PATHS:
        return _at(rest, form)
    served, _, transport = protocol.partition("+")
    if served not in PROTOCOLS:
        return _UNKNOWN
    return Source(
        type="network",
        protocol=served,
        # The rest may contain a key.
        name=re.split(r"[?:]" if served == "rbd" else r"[?]", rest.rpartition("@")[2])[0],
        format=form,
        servers=_servers_of_text(served, transport, rest),
    )


def _at(path: Any, form: str) -> Source:
    """Return the file at a path; a relative one is relative to QEMU's working directory, not to the image."""
    return Source(type="file", path=path, format=form) if isinstance(path, str) and path.startswith("/") else _UNKNOWN


def _servers_of_text(protocol: str, transport: str, rest: str) -> tuple[Server, ...]:
    if not rest.startswith("//"):
        unix = re.match(r"unix:([^:]+)", rest) if protocol == "nbd" else None
        if unix:
            return (Server(socket=unix[1]),)
        plain = re.match(r"(\[[^]]*\]|[^:/]+):(\d+)", rest) if protocol == "nbd" else None
        return _server(plain[1].strip("[]"), plain[2]) if plain else ()
    try:
        url = urlsplit(f"x:{rest}")
        return _unix(url) if transport == "unix" else _server(url.hostname, url.port)
    except ValueError:
        return ()


def _unix(url: SplitResult) -> tuple[Server, ...]:
    path = parse_qs(url.query).get("socket", [""])[0]
    return (Server(socket=path),) if path.startswith("/") else ()


def _server(name: Any, port: Any) -> tuple[Server, ...]:
    if not isinstance(name, str) or not name:
        return ()
    return (Server(name=unquote(name), port=number(str(port)) if port else None),)


def _from_json(text: str, form: str) -> Source:
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError):
        return _UNKNOWN
    for _ in range(MOST_LAYERS):
        if not isinstance(data, dict):
            return _UNKNOWN
        data = _nested(data)
        driver = data.get("driver", "")
        if "file" not in data:
            return _from_layer(data, form) if isinstance(driver, str) else _UNKNOWN
        # A layer that names other parts here consists of more than its file.
        if driver not in ("", *FORMATS) or any(data.get(part) is not None for part in OTHER_PARTS):
            return _UNKNOWN
        form = form or driver
        data = data["file"]
    return _UNKNOWN


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Return ``{"a": {"b": 1}}`` for ``{"a.b": 1}``: QEMU accepts both."""
    found = {key: value for key, value in flat.items() if "." not in key}
    for key, value in flat.items():
        first, dot, rest = key.partition(".")
        if dot:
            inner = found.get(first, {})
            # A key in both spellings is used in neither.
            found[first] = {**inner, rest: value} if isinstance(inner, dict) and rest not in inner else None
    return found


def _from_layer(data: dict[str, Any], form: str) -> Source:
    """Parse the lowest layer: a path, or a disk of a server."""
    driver, path = data.get("driver", ""), data.get("filename")
    if driver in ("", *PATHS):
        return _at(path, form)
    if driver not in PROTOCOLS:
        return _UNKNOWN
    names = (data.get(key) for key in ("image", "export", "target", "path", "volume", "vdi"))
    name = next((each for each in names if isinstance(each, str)), "")
    return Source(type="network", protocol=driver, name=name, format=form, servers=_servers_of_json(data))


def _servers_of_json(data: dict[str, Any]) -> tuple[Server, ...]:
    url, portal = data.get("url"), data.get("portal")
    if isinstance(url, str):
        return _servers_of_text("", "", url.partition(":")[2])
    if isinstance(portal, str):
        return _servers_of_text("", "", f"//{portal}")
    given = data.get("server", data)
    if isinstance(given, dict) and given is not data:
        given = _nested(given)
        numbered = [value for key, value in given.items() if key.isdecimal()]
        given = numbered or [given]
    each = given if isinstance(given, list) else [data]
    return tuple(server for one in each if isinstance(one, dict) for server in _server_of_object(one))


def _server_of_object(one: dict[str, Any]) -> tuple[Server, ...]:
    socket = one.get("socket") or (one.get("path") if one.get("type") == "unix" or "host" not in one else None)
    if isinstance(socket, str) and socket.startswith("/") and "host" not in one:
        return (Server(socket=socket),)
    return _server(one.get("host"), one.get("port"))
