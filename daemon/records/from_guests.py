"""Records made of the guests themselves, for a host that no control plane keeps records of.

A guest that runs is ACTIVE, so that it is brought back when the host comes back; one that is off is STOPPED.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, Protocol

from bringup.daemon.instances import Instance
from bringup.daemon.records.base import Records
from bringup.daemon.states import PowerState, VmState


class DefinedGuest(Protocol):
    """What is known of a guest."""

    @property
    def uuid(self) -> str:
        """Its UUID, lower case, with dashes."""

    @property
    def name(self) -> str:
        """The hypervisor's name for it."""

    @property
    def state(self) -> PowerState:
        """What it does."""

    @property
    def saved(self) -> bool:
        """Whether it is off with its memory saved."""


VM_STATES: Final[Mapping[PowerState, VmState]] = MappingProxyType(
    {
        PowerState.NOSTATE: VmState.STOPPED,
        PowerState.RUNNING: VmState.ACTIVE,
        PowerState.PAUSED: VmState.PAUSED,
        PowerState.SHUTDOWN: VmState.STOPPED,
        PowerState.CRASHED: VmState.STOPPED,
        PowerState.SUSPENDED: VmState.SUSPENDED,
    }
)


def records_of(guests: Iterable[DefinedGuest], host: str) -> Records:
    """Make a record of each guest, of ``host``."""
    return Records(
        instances=tuple(
            Instance(
                uuid=guest.uuid,
                host=host,
                name=guest.name,
                display_name=guest.name,
                vm_state=VmState.SUSPENDED if guest.saved else VM_STATES[guest.state],
                power_state=guest.state,
            )
            for guest in guests
        )
    )
