"""Facts parsed from libvirt's XML, which comes from the daemon and is trusted as the hypervisor is."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from bringup.drivers.base import DriverError
from bringup.drivers.bounded_repr import bounded_repr
from bringup.drivers.libvirt.guest_needs.rules.xml_values import number

COUNTED_NICS: Final = frozenset({"bridge", "direct", "ethernet", "network"})
AGENT_CHANNEL: Final = "org.qemu.guest_agent.0"


@dataclass(frozen=True, slots=True)
class DiskCopy:
    """A disk of a guest that is being copied, and the target if that is a file."""

    disk: str
    to: Path | None


def copies_of(xml: str) -> list[DiskCopy]:
    """Return the block jobs of a guest that copy: an interrupted live snapshot leaves them."""
    found = []
    for disk in ET.fromstring(xml).iterfind("./devices/disk"):  # noqa: S314 - see above
        target, mirror = disk.find("target"), disk.find("mirror")
        # Older libvirts name no job: then it is a copy.
        if target is None or mirror is None or mirror.get("job", "copy") != "copy":
            continue
        source = mirror.find("source")
        file = mirror.get("file") if source is None else source.get("file")
        found.append(DiskCopy(target.get("dev", ""), None if file is None else Path(file)))
    return found


def require_definition_of(xml: str, uuid: str) -> str:
    """Return a definition if it is that of an instance.

    :raises DriverError: it is that of another, or no XML.
    """
    try:
        found = ET.fromstring(xml).findtext("uuid")  # noqa: S314 - see above
    except ET.ParseError as error:
        raise DriverError(f"cannot restore the definition of {uuid}: it is no XML") from error
    if found != uuid:
        raise DriverError(f"cannot restore the definition of {uuid}: it is that of {bounded_repr(found)}")
    return xml


def features_of(cpu: str) -> Iterator[str]:
    """Return the CPU features of an expanded ``<cpu>``."""
    for feature in ET.fromstring(cpu).iterfind(".//feature"):  # noqa: S314 - see above
        yield feature.get("name", "")


def host_cpu(capabilities: str) -> tuple[str, str]:
    """Return the architecture and the ``<cpu>`` of a host; "" if the hypervisor does not report them."""
    cpu = ET.fromstring(capabilities).find("./host/cpu")  # noqa: S314 - see above
    if cpu is None:
        return "", ""
    return cpu.findtext("arch", ""), ET.tostring(cpu, encoding="unicode")


def values_of(capabilities: str, device: str, name: str) -> list[str]:
    """Return the values of an attribute of a device in ``virConnectGetDomainCapabilities``."""
    path = f"./devices/{device}/enum[@name='{name}']/value"
    return [value.text or "" for value in ET.fromstring(capabilities).iterfind(path)]  # noqa: S314 - same


def requires_kvm(xml: str) -> bool:
    """Check whether a guest is defined for KVM."""
    return ET.fromstring(xml).get("type") == "kvm"  # noqa: S314 - see above


def agent_state(xml: str) -> bool | None:
    """Return whether the agent of a guest that runs is connected; None: it has no channel for one."""
    for target in ET.fromstring(xml).iterfind("./devices/channel/target"):  # noqa: S314 - see above
        if target.get("name") == AGENT_CHANNEL:
            return target.get("state") == "connected"
    return None


def count_nics(xml: str) -> int | None:
    """Return how many NICs a guest has; None: packets of one go past the host, which cannot count them."""
    devices = ET.fromstring(xml)  # noqa: S314 - see above
    kinds = [nic.get("type") for nic in devices.iterfind("./devices/interface")]
    # What device of the host it is given is not known here: it may be a NIC.
    past_host = devices.find("./devices/hostdev") is not None
    return None if past_host or not COUNTED_NICS.issuperset(kinds) else len(kinds)


def disk_names(xml: str) -> dict[str, str]:
    """Return the names of the disks of a guest that runs, by those that libvirt's events have for them."""
    found = {}
    for disk in ET.fromstring(xml).iterfind("./devices/disk"):  # noqa: S314 - see above
        alias, target = disk.find("alias"), disk.find("target")
        if alias is not None and target is not None:
            found[alias.get("name", "")] = target.get("dev", "")
    return found


def nics_with_several_queues(xml: str) -> frozenset[str]:
    """Return the MACs, in lower case, of the NICs whose tap QEMU opens more than once."""
    found = set()
    for nic in ET.fromstring(xml).iterfind("./devices/interface"):  # noqa: S314 - see above
        mac, driver = nic.find("mac"), nic.find("driver")
        queues = "" if driver is None else driver.get("queues", "")
        if mac is not None and (number(queues) or 0) > 1:
            found.add(mac.get("address", "").lower())
    return frozenset(found)
