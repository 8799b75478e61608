"""What the kernel says about PCI devices; the rest of the package only decides."""

from pathlib import Path

from bringup.daemon.settings.pci.address import PciAddress

SYSFS = Path("/sys")


def is_physical_function(address: str, *, sysfs: Path = SYSFS) -> bool:
    """Check whether the device can have virtual functions (SR-IOV); False if it cannot be read."""
    try:
        text = (sysfs / "bus/pci/devices" / address / "sriov_totalvfs").read_text(encoding="ascii")
        return int(text) > 0
    except (OSError, ValueError):
        return False


def address_of_interface(name: str, *, sysfs: Path = SYSFS) -> str | None:
    """Return the PCI address of a network interface; None: it does not exist or is no PCI device."""
    if name in {".", ".."} or "/" in name:
        return None
    try:
        link = (sysfs / "class/net" / name / "device").readlink()
        return str(PciAddress.parse(link.name))
    except (OSError, ValueError):
        return None
