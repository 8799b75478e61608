"""What the kernel says about PCI devices; the rest of the package only decides."""

from pathlib import Path

from bringup.daemon.settings.pci.address import PciAddress

SYSFS = Path("/sys")


def is_physical_function(address: str, *, sysfs: Path = SYSFS) -> bool:
    """Say whether the device can have virtual functions (SR-IOV).  What cannot be read cannot."""
    try:
        text = (sysfs / "bus/pci/devices" / address / "sriov_totalvfs").read_text(encoding="ascii")
        return int(text) > 0
    except (OSError, ValueError):
        return False


def address_of_interface(name: str, *, sysfs: Path = SYSFS) -> str | None:
    """Give the PCI address of a network interface, None where there is no such interface or it is no PCI device."""
    if name in {".", ".."} or "/" in name:
        return None
    try:
        link = (sysfs / "class/net" / name / "device").readlink()
        return str(PciAddress.parse(link.name))
    except (OSError, ValueError):
        return None
