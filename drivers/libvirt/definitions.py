"""What is read in libvirt's XML.  It comes from the daemon, which is trusted as the hypervisor is."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from bringup.drivers.base import DriverError
from bringup.drivers.bounded_repr import bounded_repr
from bringup.drivers.libvirt.guest_needs.rules.xml_values import number


@dataclass(frozen=True, slots=True)
class Copying:
    """A disk of a guest that is being copied, and where to, as far as that is a file."""

    disk: str
    to: Path | None


def copies_of(xml: str) -> list[Copying]:
    """Find the block jobs of a guest that copy: what an interrupted live snapshot leaves."""
    found = []
    for disk in ET.fromstring(xml).iterfind("./devices/disk"):  # noqa: S314 - see above
        target, mirror = disk.find("target"), disk.find("mirror")
        # Older libvirts name no job: then it is a copy.
        if target is None or mirror is None or mirror.get("job", "copy") != "copy":
            continue
        source = mirror.find("source")
        file = mirror.get("file") if source is None else source.get("file")
        found.append(Copying(target.get("dev", ""), None if file is None else Path(file)))
    return found


def checked(xml: str, uuid: str) -> str:
    """Give the definition of an instance if it is that.

    :raises DriverError: it is another's, or none.
    """
    try:
        found = ET.fromstring(xml).findtext("uuid")  # noqa: S314 - see above
    except ET.ParseError as error:
        raise DriverError(f"cannot restore the definition of {uuid}: it is no XML") from error
    if found != uuid:
        raise DriverError(f"cannot restore the definition of {uuid}: it is that of {bounded_repr(found)}")
    return xml


def features_of(cpu: str) -> Iterator[str]:
    """Give the CPU features of an expanded ``<cpu>``."""
    for feature in ET.fromstring(cpu).iterfind(".//feature"):  # noqa: S314 - see above
        yield feature.get("name", "")


def host_cpu(capabilities: str) -> tuple[str, str]:
    """Give the architecture and the ``<cpu>`` of a host; "" where the hypervisor does not tell."""
    cpu = ET.fromstring(capabilities).find("./host/cpu")  # noqa: S314 - see above
    if cpu is None:
        return "", ""
    return cpu.findtext("arch", ""), ET.tostring(cpu, encoding="unicode")


def values_of(capabilities: str, device: str, name: str) -> list[str]:
    """Give the values that ``virConnectGetDomainCapabilities`` has for an attribute of a device."""
    path = f"./devices/{device}/enum[@name='{name}']/value"
    return [value.text or "" for value in ET.fromstring(capabilities).iterfind(path)]  # noqa: S314 - same


def wants_kvm(xml: str) -> bool:
    """Tell whether a guest is defined for KVM."""
    return ET.fromstring(xml).get("type") == "kvm"  # noqa: S314 - see above


def nics_with_several_queues(xml: str) -> frozenset[str]:
    """Give the MACs, in lower case, of the NICs that QEMU opens the tap of more than once."""
    found = set()
    for nic in ET.fromstring(xml).iterfind("./devices/interface"):  # noqa: S314 - see above
        mac, driver = nic.find("mac"), nic.find("driver")
        queues = "" if driver is None else driver.get("queues", "")
        if mac is not None and (number(queues) or 0) > 1:
            found.add(mac.get("address", "").lower())
    return frozenset(found)
