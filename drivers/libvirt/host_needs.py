"""Needs that guests of a host share: other drivers of libvirt, and the folder of local disks.

With modular daemons each of libvirt's drivers is a process of its own, which may be unavailable while that of QEMU
answers: no guest with a disk in a storage pool, or a NIC in a virtual network, starts then.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree as ET

from bringup.drivers.libvirt.binding import Connection
from bringup.drivers.needs import Need, NeedKind, NeedState

STORAGE: Final = "libvirt's storage driver"
NETWORK: Final = "libvirt's network driver"
TO_DO: Final[Mapping[str, str]] = {
    STORAGE: "start virtstoraged (systemctl start virtstoraged.socket), or install libvirt's storage driver",
    NETWORK: "start virtnetworkd (systemctl start virtnetworkd.socket), or install libvirt's network driver",
}
KINDS: Final = {STORAGE: NeedKind.DISK, NETWORK: NeedKind.NETWORK}
SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class HostWideNeeds:
    """Facts of a guest's definition that decide on shared needs."""

    uuid: str
    in_pool: bool
    in_network: bool
    local: frozenset[str] = frozenset()
    """Names in the folder of local disks that its paths lead to."""


def definitions_of(connection: Connection, wanted: frozenset[str] | None, folder: str) -> list[HostWideNeeds]:
    """Read the definitions of the ``wanted`` guests (None: of all); blocks."""
    found = []
    for domain in connection.listAllDomains():
        uuid = domain.UUIDString()
        if wanted is None or uuid in wanted:
            found.append(parse_definition(uuid, domain.XMLDesc(), folder))
    return found


def parse_definition(uuid: str, xml: str, folder: str) -> HostWideNeeds:
    """Parse one definition."""
    root = ET.fromstring(xml)  # noqa: S314 - from the hypervisor's daemon, which is trusted as it is
    devices = root.find("devices")
    return HostWideNeeds(
        uuid,
        in_pool=devices is not None and any(disk.get("type") == "volume" for disk in devices.iterfind("disk")),
        in_network=devices is not None and any(nic.get("type") == "network" for nic in devices.iterfind("interface")),
        local=frozenset(name for text in _texts(root) if (name := _name_in(folder, text))),
    )


def _texts(root: "ET.Element[str]") -> Iterable[str]:
    for element in root.iter():
        yield element.text or ""
        yield from element.attrib.values()


def _name_in(folder: str, text: str) -> str:
    above = f"{folder.rstrip('/')}/"
    return text.strip().removeprefix(above).partition("/")[0] if text.strip().startswith(above) else ""


def drivers_needed(definitions: Iterable[HostWideNeeds]) -> list[str]:
    """Return the names of the other drivers of libvirt that guests need."""
    each = list(definitions)
    needed = [STORAGE] if any(one.in_pool for one in each) else []
    return [*needed, NETWORK] if any(one.in_network for one in each) else needed


def need_of_driver(connection: Connection, name: str, error_class: type[Exception]) -> Need:
    """Return whether another driver of libvirt answers, as a need; blocks."""
    try:
        connection.listAllStoragePools() if name == STORAGE else connection.listAllNetworks()
    except error_class as error:
        why = f"it does not answer ({str(error)[:SHOWN]}); {TO_DO[name]}"
        return Need(kind=KINDS[name], name=name, state=NeedState.ABSENT, why=why)
    return Need(kind=KINDS[name], name=name, state=NeedState.MET)
