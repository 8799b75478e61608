"""Guests that libvirt has, with the facts from which records are created."""

from dataclasses import dataclass

from bringup.drivers.base import PowerState
from bringup.drivers.libvirt.binding import Connection
from bringup.drivers.libvirt.definitions import requires_kvm
from bringup.drivers.libvirt.hypervisor import power_state


@dataclass(frozen=True, slots=True)
class DefinedGuest:
    """One guest that libvirt has."""

    uuid: str
    name: str
    state: PowerState
    saved: bool
    """It is off, and its memory is in a managed save image."""
    persistent: bool = True
    """libvirt keeps its definition when it stops."""


def guests_of(connection: Connection) -> list[DefinedGuest]:
    """Return the guests, running or not, sorted by name; blocks."""
    found = [
        DefinedGuest(
            domain.UUIDString(),
            domain.name(),
            power_state(domain.state()[0]),
            # A guest without a definition has none, and libvirt raises an error.
            saved=bool(domain.isPersistent() and domain.hasManagedSaveImage()),
            persistent=bool(domain.isPersistent()),
        )
        for domain in connection.listAllDomains()
    ]
    return sorted(found, key=lambda guest: guest.name)


def guests_that_require_kvm(connection: Connection) -> list[str]:
    """Return the names of the guests that are defined for KVM; blocks."""
    return sorted(domain.name() for domain in connection.listAllDomains() if requires_kvm(domain.XMLDesc()))
