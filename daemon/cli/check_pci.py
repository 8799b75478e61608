"""What ``bringup check`` says of ``[pci] device_spec``: entries that name a network interface which is not here."""

from collections.abc import Callable

from bringup.daemon.cli.check_finding import Finding, Status
from bringup.daemon.settings import Settings
from bringup.daemon.settings.pci import sysfs


def pci_finding(
    settings: Settings, *, address_of_interface: Callable[[str], str | None] = sysfs.address_of_interface
) -> Finding | None:
    """Look for each interface that a spec names; None where none does."""
    named = [spec.devname for spec in settings.pci.device_spec if spec.devname is not None]
    if not named:
        return None
    missing = [name for name in dict.fromkeys(named) if address_of_interface(name) is None]
    facts = {"devnames": named, "missing": missing}
    if not missing:
        return Finding("pci", Status.OK, f"pci.device_spec: all {len(named)} interfaces that it names are here", facts)
    return Finding("pci", Status.WARNING, "; ".join(_sentence(name) for name in missing), facts)


def _sentence(name: str) -> str:
    return (
        f'pci.device_spec: devname "{name}" is no network interface of a PCI device on this host, so it matches '
        "nothing (Nova fails at the first match); give its name of today, or its address"
    )
