"""Facts parsed from libvirt's XML, which comes from the daemon and is trusted as the hypervisor is."""

from collections.abc import Iterator, Mapping
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


@dataclass(frozen=True, slots=True)
class RunningDevices:
    """What the definition of a guest that runs says of its devices."""

    agent: bool | None
    """Whether its agent is connected; None: it has no channel for one."""
    nics: int | None
    """How many NICs it has; None: packets of one go past the host, which cannot count them."""
    disks: Mapping[str, str]
    """The names of its disks, by those that events have for them."""


def devices_of(xml: str) -> RunningDevices:
    """Return what it says."""
    devices = ET.fromstring(xml).find("devices")  # noqa: S314 - see above
    if devices is None:
        return RunningDevices(None, 0, {})
    channels = [each for each in devices.iterfind("channel/target") if each.get("name") == AGENT_CHANNEL]
    kinds = [nic.get("type") for nic in devices.iterfind("interface")]
    # What device of the host it is given is not known here: it may be a NIC.
    past_host = devices.find("hostdev") is not None or not COUNTED_NICS.issuperset(kinds)
    disks = [(disk.find("alias"), disk.find("target")) for disk in devices.iterfind("disk")]
    return RunningDevices(
        any(each.get("state") == "connected" for each in channels) if channels else None,
        None if past_host else len(kinds),
        {
            alias.get("name", ""): target.get("dev", "")
            for alias, target in disks
            if alias is not None and target is not None
        },
    )


def nics_with_several_queues(xml: str) -> frozenset[str]:
    """Return the MACs, in lower case, of the NICs whose tap QEMU opens more than once."""
    found = set()
    for nic in ET.fromstring(xml).iterfind("./devices/interface"):  # noqa: S314 - see above
        mac, driver = nic.find("mac"), nic.find("driver")
        queues = "" if driver is None else driver.get("queues", "")
        if mac is not None and (number(queues) or 0) > 1:
            found.add(mac.get("address", "").lower())
    return frozenset(found)
