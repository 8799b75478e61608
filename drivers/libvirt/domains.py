"""The guests that libvirt has, as records are made of them."""

from dataclasses import dataclass

from bringup.drivers.base import PowerState
from bringup.drivers.libvirt.binding import Connection
from bringup.drivers.libvirt.definitions import wants_kvm
from bringup.drivers.libvirt.hypervisor import power_state


@dataclass(frozen=True, slots=True)
class DefinedGuest:
    """One guest."""

    uuid: str
    name: str
    state: PowerState
    saved: bool
    """It is off and its memory is in a managed save image."""
    persistent: bool = True
    """libvirt keeps its definition when it stops."""


def guests_of(connection: Connection) -> list[DefinedGuest]:
    """List the guests, running or not, by name."""
    found = [
        DefinedGuest(
            domain.UUIDString(),
            domain.name(),
            power_state(domain.state()[0]),
            # Of one without a definition there is none, and libvirt does not answer.
            saved=bool(domain.isPersistent() and domain.hasManagedSaveImage()),
            persistent=bool(domain.isPersistent()),
        )
        for domain in connection.listAllDomains()
    ]
    return sorted(found, key=lambda guest: guest.name)


def guests_that_want_kvm(connection: Connection) -> list[str]:
    """List the names of the guests that are defined for KVM."""
    return sorted(domain.name() for domain in connection.listAllDomains() if wants_kvm(domain.XMLDesc()))
