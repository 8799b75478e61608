"""Facts of the kernel and udev about a block device, from sysfs and udev's data; the device is not opened."""

import os
import re
from collections.abc import Iterator
from typing import Final

from bringup.drivers.libvirt.guest_needs.host import HostFiles, PathTarget
from bringup.drivers.libvirt.guest_needs.rules.disk_identity import MULTIPATH, Device
from bringup.drivers.libvirt.guest_needs.rules.disk_names import SHORTEST, plain_identity

MOST_PATHS: Final = 64
DESIGNATORS: Final = (2, 3, 8)
"""EUI-64, NAA, SCSI name: what SCSI knows a logical unit by (SPC, table of designators)."""
_ADDRESS: Final = re.compile(r"\d+:\d+:\d+:(\d+)")


def device_of(host: HostFiles, found: PathTarget) -> Device:
    """Read the identity of a block device."""
    number = 0 if found.status is None else found.status.st_rdev
    return _device(host, host.real(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}"))


def dm_uuid_of(host: HostFiles, name: str) -> str:
    """Return device-mapper's UUID of one of its names; "" if it has no such name."""
    for block in host.names_in("/sys/block"):
        if block.startswith("dm-") and host.text(f"/sys/block/{block}/dm/name") == name:
            return host.text(f"/sys/block/{block}/dm/uuid")
    return ""


def _device(host: HostFiles, folder: str, *, paths: bool = True) -> Device:
    whole = folder
    if host.exists(f"{folder}/partition"):
        # A partition is identified by its disk; the name must contain which partition it is.
        whole = folder.rpartition("/")[0]
    dm_uuid = host.text(f"{folder}/dm/uuid")
    # Only the paths of multipath are the same disk: the slaves of a logical volume are larger than it.
    is_multipath = paths and dm_uuid.startswith(MULTIPATH)
    slaves = host.names_in(f"{folder}/slaves", MOST_PATHS) if is_multipath else []
    block = whole.rpartition("/")[2]
    return Device(
        name=folder.rpartition("/")[2],
        dm_name=host.text(f"{folder}/dm/name"),
        dm_uuid=dm_uuid,
        is_part=whole != folder,
        wwns=frozenset(_wwns(host, whole)),
        targets=frozenset(_targets(host, whole)),
        nqn=_nqn(host, whole) if block.startswith("nvme") else "",
        namespaces=frozenset(_namespaces(host, whole)) if block.startswith("nvme") else frozenset(),
        paths=tuple(_device(host, host.real(f"{folder}/slaves/{name}"), paths=False) for name in sorted(slaves)),
    )


def _wwns(host: HostFiles, folder: str) -> Iterator[str]:
    texts = [host.text(f"{folder}/device/wwid"), host.text(f"{folder}/wwid")]
    number = host.text(f"{folder}/dev")
    for line in host.text(f"/run/udev/data/b{number}").splitlines() if number else ():
        key, _, value = line.partition("=")
        if key in ("E:ID_SERIAL", "E:ID_WWN", "E:ID_WWN_WITH_EXTENSION", "E:SCSI_IDENT_LUN_NAA_REGEXT"):
            texts.append(value)
    for text in texts:
        identity = plain_identity(text)
        if re.fullmatch(rf"[0-9a-f]{{{SHORTEST},}}", identity) and identity.strip("0"):
            yield identity
    yield from page_83(host.start_of(f"{folder}/device/vpd_pg83"))


def page_83(page: bytes) -> Iterator[str]:
    """Read the designators of a logical unit in SCSI's page 83."""
    place = 4
    while place + 4 <= len(page):
        code_set, kind, length = page[place] & 0xF, page[place + 1], page[place + 3]
        value = page[place + 4 : place + 4 + length]
        place += 4 + length
        # Association 0: the logical unit, not its port.
        if kind & 0x30 or kind & 0xF not in DESIGNATORS or len(value) != length or not value.strip(b"\0"):
            continue
        if code_set == 1 and length * 2 >= SHORTEST:
            yield value.hex()


def _targets(host: HostFiles, folder: str) -> Iterator[tuple[str, int]]:
    at = host.real(f"{folder}/device")
    parts = at.split("/")
    address = _ADDRESS.fullmatch(parts[-1])
    if address is None:
        return
    lun = int(address[1])
    for part in parts:
        if re.fullmatch(r"session\d+", part):
            name = host.text(f"/sys/class/iscsi_session/{part}/targetname")
            if name:
                yield name, lun
        elif re.fullmatch(r"target\d+:\d+:\d+", part):
            port = host.text(f"/sys/class/fc_transport/{part}/port_name")
            if port:
                yield plain_identity(port), lun


def _nqn(host: HostFiles, folder: str) -> str:
    for path in (f"{folder}/device/subsysnqn", f"{folder}/subsysnqn", f"{folder}/device/device/subsysnqn"):
        if found := host.text(path):
            return found
    return ""


def _namespaces(host: HostFiles, folder: str) -> Iterator[str]:
    for name in ("uuid", "nguid", "eui", "wwid"):
        identity = plain_identity(host.text(f"{folder}/{name}").replace(" ", ""))
        if len(identity) >= SHORTEST and identity.strip("0-"):
            yield plain_identity(identity)
