"""What a hypervisor must be able to do: Nova's driver verbs, as far as a host's start needs them.

The verbs have the names of Nova's ``ComputeDriver``.  A driver that cannot do a thing raises
:class:`NotImplementedError`: that is an answer, not a failure.  A verb that fails raises one of the classes below where
the caller reacts to the difference, anything else where it does not.

This module holds the words only: no I/O, no clock, no logger; the decision core imports it.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

from bringup.drivers.errors import (
    AutostartConflict,
    DriverError,
    InstanceNotFound,
    InstancePowerOffFailure,
    NotBegun,
    PciDeviceNotFound,
    VirtualInterfacePlugError,
)
from bringup.drivers.needs import Need

__all__ = [
    "POWER_AFTER",
    "AutostartConflict",
    "AvailableResource",
    "Driver",
    "DriverError",
    "EventListener",
    "FilterChange",
    "Guest",
    "GuestInfo",
    "InstanceNotFound",
    "InstancePowerOffFailure",
    "LifecycleEvent",
    "Need",
    "NotBegun",
    "PciDeviceNotFound",
    "PowerState",
    "RebootType",
    "SharedStorageProbe",
    "Transition",
    "VirtualInterfacePlugError",
]


class PowerState(enum.Enum):
    """What a guest is doing, with Nova's numbers (``nova.compute.power_state``)."""

    NOSTATE = 0
    RUNNING = 1
    PAUSED = 3
    SHUTDOWN = 4
    CRASHED = 6
    SUSPENDED = 7


class RebootType(enum.Enum):
    """Ask the guest (``SOFT``) or pull the plug (``HARD``)."""

    SOFT = "SOFT"
    HARD = "HARD"


class Transition(enum.Enum):
    """What a hypervisor says has happened to a guest (``nova.virt.event``)."""

    STARTED = "started"
    STOPPED = "stopped"
    PAUSED = "paused"
    RESUMED = "resumed"
    SUSPENDED = "suspended"
    CRASHED = "crashed"


POWER_AFTER: Final[Mapping[Transition, PowerState]] = MappingProxyType(
    {
        Transition.STARTED: PowerState.RUNNING,
        Transition.STOPPED: PowerState.SHUTDOWN,
        Transition.PAUSED: PowerState.PAUSED,
        Transition.RESUMED: PowerState.RUNNING,
        Transition.SUSPENDED: PowerState.SUSPENDED,
        Transition.CRASHED: PowerState.CRASHED,
    }
)
"""The power state of a guest right after a transition."""


@dataclass(frozen=True, slots=True)
class LifecycleEvent:
    """One transition of one guest, as the hypervisor told it."""

    uuid: str
    transition: Transition


@dataclass(frozen=True, slots=True)
class GuestInfo:
    """One look at a guest."""

    state: PowerState


@dataclass(frozen=True, slots=True)
class SharedStorageProbe:
    """A mark that this host left on an instance's disks, for another host to look for."""

    uuid: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AvailableResource:
    """What a host has, before anything of it is given away."""

    vcpus: int
    memory_mb: int
    """MiB."""
    local_gb: int | None
    """GiB of the disk that guests' local disks are on; None: it is not known, because it is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterChange:
    """Somebody else has changed the rules of guests, or nobody can tell whether they are in place."""

    what: str
    """In a sentence."""
    put_back: bool
    """They are in place again; False: they are not, or it is not known."""


class Guest(Protocol):
    """What a driver is told of an instance."""

    @property
    def uuid(self) -> str:
        """The instance's UUID, lower case, with dashes."""

    @property
    def name(self) -> str:
        """The hypervisor's name for the guest (Nova's ``instance_name``, ``instance-00000001``); may be empty."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """What its user wrote on it."""

    @property
    def system_metadata(self) -> Mapping[str, str]:
        """What Nova wrote on it."""

    @property
    def network_info(self) -> Sequence[Mapping[str, Any]]:
        """Its VIFs, as Nova's info cache holds them."""

    @property
    def block_devices(self) -> Sequence[Mapping[str, Any]]:
        """Its block device mappings."""


EventListener = Callable[[LifecycleEvent], None]


class Driver(Protocol):
    """A hypervisor.  Every verb may take long and may hang: the caller sets the deadline."""

    async def init_host(self, host: str) -> None:
        """Make the hypervisor ready; nothing else is called before."""

    async def close(self) -> None:
        """Let go of the hypervisor.  Guests are left as they are."""

    def register_event_listener(self, listener: EventListener) -> None:
        """Call ``listener``, in the event loop, for each lifecycle event from now on."""

    async def list_instance_uuids(self) -> list[str]:
        """UUIDs of the guests that the hypervisor has, running or not."""

    async def list_instances(self) -> list[str]:
        """Names of the guests that the hypervisor has; asked where it cannot tell their UUIDs."""

    async def get_available_resource(self) -> AvailableResource:
        """Tell what this host has, guests or none."""

    async def capabilities_as_traits(self) -> frozenset[str]:
        """Tell what this host can do, in the names of os-traits (``COMPUTE_...``, ``HW_CPU_...``)."""

    async def get_info(self, guest: Guest) -> GuestInfo:
        """Look at a guest.

        :raises InstanceNotFound: the hypervisor has none.
        """

    async def needs(self, guest: Guest) -> Sequence[Need]:
        """Tell what a start of the guest relies on, met or not; nothing is changed.

        A guest that the hypervisor does not have needs its definition, and nothing else can be told.
        """

    async def host_needs(self, guests: Sequence[Guest]) -> Sequence[Need]:
        """Tell what guests rely on together, of the host and not of each for itself; nothing is changed.

        A service, a folder, a driver of the hypervisor: met or not, and only those that one of the guests needs.
        """

    async def plug_vifs(self, guest: Guest) -> None:
        """Make the NICs of a guest ready on the host.

        :raises VirtualInterfacePlugError: one of them could not be.
        :raises NeedNotMet: this host lacks what one of them needs.
        :raises PciDeviceNotFound: one of them is a PCI device that is gone.
        """

    async def ensure_filtering_rules_for_instance(self, guest: Guest) -> None:
        """Put the firewall rules of a running guest in place."""

    async def keep_filtering_rules(self, notify: Callable[[FilterChange], None]) -> None:
        """Put firewall rules back that somebody else takes away or changes, until cancelled, and tell of it.

        Returns at once where this driver keeps none.
        """

    async def filter_defer_apply_on(self) -> None:
        """Collect firewall rules from now on."""

    async def filter_defer_apply_off(self) -> None:
        """Apply what was collected, and each rule at once from now on."""

    async def power_on(self, guest: Guest) -> None:
        """Start a guest."""

    async def power_off(self, guest: Guest, *, timeout_s: float, retry_interval_s: float) -> None:
        """Stop a guest: ask it for ``timeout_s`` seconds, again each ``retry_interval_s``, then pull the plug.

        A ``timeout_s`` of 0 pulls the plug at once.

        :raises InstancePowerOffFailure: it is still running.
        """

    async def reboot(self, guest: Guest, reboot_type: RebootType) -> None:
        """Restart a guest."""

    async def unpause(self, guest: Guest) -> None:
        """Let a frozen guest go on."""

    async def resume_state_on_host_boot(self, guest: Guest) -> None:
        """Bring a guest back that ran before the host went down; one that runs, is paused or suspended stays so."""

    async def destroy(self, guest: Guest, *, destroy_disks: bool) -> None:
        """Stop a guest and forget it, with or without its local disks."""

    async def keep_disks(self, guest: Guest) -> Sequence[str]:
        """Move the local disks of a guest aside, where neither its destruction nor a new guest touches them.

        Gives where they are; asked again, the same.  A guest that has none here gives nothing.
        """

    async def delete_kept_disks(self, uuid: str, where: Sequence[str]) -> None:
        """Delete what was moved aside; what is gone already is fine."""

    async def finish_revert_migration(self, guest: Guest, *, power_on: bool) -> None:
        """Take a guest back whose resize or cold migration was cut short; one that was taken back stays as it is."""

    async def live_migration_abort(self, guest: Guest) -> None:
        """Stop the live migration of a guest that is still on its way out."""

    async def post_interrupted_snapshot_cleanup(self, guest: Guest) -> None:
        """Remove what a snapshot left behind that was cut short."""

    async def check_instance_shared_storage_local(self, guest: Guest) -> SharedStorageProbe | None:
        """Leave a mark on the guest's disks, or tell with None that they are not files of this host."""

    async def check_instance_shared_storage_cleanup(self, probe: SharedStorageProbe) -> None:
        """Take the mark away."""
