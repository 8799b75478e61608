"""Interface of a hypervisor: Nova's driver verbs, as far as a host's start needs them.

The verbs have the names of Nova's ``ComputeDriver``.  A driver that does not support a verb raises
:class:`NotImplementedError`: that is an answer, not a failure.  A verb that fails raises one of the classes below if
the caller reacts to the difference, or else anything.

Values and protocols only: no I/O, no clock, no logger; the decision core imports it.
"""

import enum
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol

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
    "BootCounters",
    "BootSigns",
    "Driver",
    "DriverError",
    "EventListener",
    "FilterChange",
    "Guest",
    "GuestInfo",
    "GuestSign",
    "InstanceNotFound",
    "InstancePowerOffFailure",
    "LifecycleEvent",
    "MemoryPressure",
    "NotBegun",
    "PciDeviceNotFound",
    "PowerState",
    "RebootType",
    "SharedStorageProbe",
    "SignListener",
    "Transition",
    "VirtualInterfacePlugError",
    "VitalSigns",
    "VitalState",
]


class PowerState(enum.Enum):
    """Power state of a guest, with Nova's numbers (``nova.compute.power_state``)."""

    NOSTATE = 0
    RUNNING = 1
    PAUSED = 3
    SHUTDOWN = 4
    CRASHED = 6
    SUSPENDED = 7


class RebootType(enum.Enum):
    """A request to the guest (``SOFT``), or powering off and on (``HARD``)."""

    SOFT = "SOFT"
    HARD = "HARD"


class Transition(enum.Enum):
    """Change of a guest that a hypervisor reports (``nova.virt.event``)."""

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
    """One transition of one guest, as the hypervisor reported it."""

    uuid: str
    transition: Transition


@dataclass(frozen=True, slots=True)
class GuestInfo:
    """State of a guest when it was read."""

    state: PowerState


@dataclass(frozen=True, slots=True)
class SharedStorageProbe:
    """A mark that this host created on an instance's disks, for another host to find."""

    uuid: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AvailableResource:
    """Resources of a host, before any is allocated."""

    vcpus: int
    memory_mb: int
    """MiB."""
    local_gb: int | None
    """GiB of the disk that guests' local disks are on; None: unknown, because it is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterChange:
    """Report that another program changed the rules of guests, or that they cannot be checked."""

    what: str
    """One sentence."""
    restored: bool
    """They are in force again; False: they are not, or it is unknown."""


@dataclass(frozen=True, slots=True)
class BootCounters:
    """What a guest has used and waited for since it was started: all vCPUs, all disks, in seconds."""

    run_s: float = 0.0
    """Its vCPUs ran."""
    delay_s: float = 0.0
    """They could run, and waited for a CPU of the host."""
    reads: int = 0
    read_s: float = 0.0
    """Its reads took, waiting included."""
    sent: int = 0
    """Packets that it has sent."""


@dataclass(frozen=True, slots=True)
class BootSigns:
    """What a guest that was started shows of its boot."""

    counters: BootCounters
    agent: bool | None = None
    """Whether its agent is connected; None: its definition has no channel for one."""


@dataclass(frozen=True, slots=True)
class GuestSign:
    """Event of a guest, beside those of its lifecycle."""

    uuid: str
    kind: Literal["agent_connected", "io_error", "rebooted"]
    """``rebooted``: it has restarted by itself."""
    detail: str = ""
    """Of an I/O error: what has failed."""
    disk: str = ""
    """And the disk, by a name that the hypervisor has for it."""


VitalState = Literal["running", "paused", "stopped", "io_error", "crashed"]
"""``io_error``: paused by the hypervisor because a disk has failed; ``paused``, ``stopped``: by whomever."""


@dataclass(frozen=True, slots=True)
class VitalSigns:
    """What a guest that was started shows later, whether it runs or not."""

    state: VitalState
    boot: BootSigns | None = None
    """None: it does not run, or its counters are unknown."""
    nics: int | None = 0
    """How many NICs it has; None: their packets cannot be counted."""
    disk_errors: tuple[str, ...] = ()
    """What its disks report by now, each with its name."""
    disks: Mapping[str, str] = field(default_factory=dict)
    """The names of its disks, by those that events have for them."""


@dataclass(frozen=True, slots=True)
class MemoryPressure:
    """``/proc/pressure/memory``: percent of the last 10 s in which some, or all, waited for memory."""

    some: float
    full: float


class Guest(Protocol):
    """Facts about an instance that a driver is given."""

    @property
    def uuid(self) -> str:
        """The instance's UUID, lower case, with dashes."""

    @property
    def name(self) -> str:
        """The hypervisor's name for the guest (Nova's ``instance_name``, ``instance-00000001``); may be empty."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """Metadata that its user set."""

    @property
    def system_metadata(self) -> Mapping[str, str]:
        """Metadata that Nova set."""

    @property
    def network_info(self) -> Sequence[Mapping[str, Any]]:
        """Its VIFs, as Nova's info cache holds them."""

    @property
    def block_devices(self) -> Sequence[Mapping[str, Any]]:
        """Its block device mappings."""


EventListener = Callable[[LifecycleEvent], None]
SignListener = Callable[[GuestSign], None]


class Driver(Protocol):
    """A hypervisor.  Every verb may take long and may hang: the caller sets the deadline."""

    async def init_host(self, host: str) -> None:
        """Make the hypervisor ready; no other verb is called before."""

    async def close(self) -> None:
        """Close the connection to the hypervisor.  Guests are left as they are."""

    def register_event_listener(self, listener: EventListener) -> None:
        """Call ``listener``, in the event loop, for each lifecycle event from now on."""

    def register_sign_listener(self, listener: SignListener) -> None:
        """Call ``listener``, in the event loop, for each other event of a guest from now on."""

    async def boot_signs(self, uuids: Collection[str]) -> Mapping[str, BootSigns]:
        """Return what guests that were started show of their boot; those that do not run are not in it."""

    async def vital_signs(self, uuids: Collection[str]) -> Mapping[str, VitalSigns]:
        """Return what guests show, those that do not run among them; those that are not there are not in it."""

    async def list_instance_uuids(self) -> list[str]:
        """Return the UUIDs of the guests that the hypervisor has, running or not."""

    async def list_instances(self) -> list[str]:
        """Return the names of the guests that the hypervisor has; used if it does not report UUIDs."""

    async def get_available_resource(self) -> AvailableResource:
        """Return the resources of this host, whatever guests use of them."""

    async def capabilities_as_traits(self) -> frozenset[str]:
        """Return the capabilities of this host as names of os-traits (``COMPUTE_...``, ``HW_CPU_...``)."""

    async def get_info(self, guest: Guest) -> GuestInfo:
        """Read the state of a guest.

        :raises InstanceNotFound: the hypervisor has none.
        """

    async def needs(self, guest: Guest) -> Sequence[Need]:
        """Return what a start of the guest relies on, met or not; nothing is changed.

        A guest that the hypervisor does not have needs its definition, and nothing else can be checked.
        """

    async def host_needs(self, guests: Sequence[Guest]) -> Sequence[Need]:
        """Return the needs that guests share; nothing is changed.

        A service, a folder, a driver of the hypervisor: met or not, and only those that one of the guests has.
        """

    async def watch_needs(self, needs: Collection[Need], notify: Callable[[Need], None]) -> None:
        """Call ``notify``, in the event loop, with each of these needs that may be met by now, until cancelled.

        None of them is met.  It may be called too often, and not for all: whoever waits also checks periodically.
        Returns at once if none of them can be watched.
        """

    def watches(self, need: Need) -> bool:
        """Return whether :meth:`watch_needs` reports this need: it is checked more rarely then."""

    async def plug_vifs(self, guest: Guest) -> None:
        """Make the NICs of a guest ready on the host.

        :raises VirtualInterfacePlugError: one of them failed.
        :raises NeedNotMet: this host lacks what one of them needs.
        :raises PciDeviceNotFound: one of them is a PCI device that does not exist.
        """

    async def ensure_filtering_rules_for_instance(self, guest: Guest) -> None:
        """Apply the firewall rules of a running guest."""

    async def keep_filtering_rules(self, notify: Callable[[FilterChange], None]) -> None:
        """Restore firewall rules that another program deletes or changes, until cancelled; ``notify`` gets each.

        Returns at once if this driver keeps none.
        """

    async def filter_defer_apply_on(self) -> None:
        """Collect firewall rules from now on."""

    async def filter_defer_apply_off(self) -> None:
        """Apply what was collected, and each rule at once from now on."""

    async def power_on(self, guest: Guest) -> None:
        """Start a guest.

        :raises NeedNotMet: what it relies on is not there, or not known.  This verb, :meth:`reboot` and
            :meth:`resume_state_on_host_boot` check that themselves, right before they start or stop the guest.
        """

    async def power_off(self, guest: Guest, *, timeout_s: float, retry_interval_s: float) -> None:
        """Stop a guest: request a shutdown for ``timeout_s`` s, each ``retry_interval_s`` s, then power it off.

        With a ``timeout_s`` of 0 it is powered off at once.

        :raises InstancePowerOffFailure: it is still running.
        """

    async def reboot(self, guest: Guest, reboot_type: RebootType) -> None:
        """Restart a guest."""

    async def unpause(self, guest: Guest) -> None:
        """Resume a paused guest."""

    async def resume_state_on_host_boot(self, guest: Guest) -> None:
        """Start a guest that ran before the host went down; one that runs, is paused or suspended stays so."""

    async def destroy(self, guest: Guest, *, destroy_disks: bool) -> None:
        """Stop a guest and delete its definition, with or without its local disks."""

    async def keep_disks(self, guest: Guest) -> Sequence[str]:
        """Move the local disks of a guest aside, where neither its destruction nor a new guest touches them.

        Returns their paths; repeated, the same ones; none if the guest has no local disks here.
        """

    async def delete_kept_disks(self, uuid: str, where: Sequence[str]) -> None:
        """Delete what was moved aside; what does not exist is fine."""

    async def finish_revert_migration(self, guest: Guest, *, power_on: bool) -> None:
        """Restore a guest whose resize or cold migration was interrupted; may be repeated."""

    async def live_migration_abort(self, guest: Guest) -> None:
        """Abort the live migration of a guest to another host."""

    async def post_interrupted_snapshot_cleanup(self, guest: Guest) -> None:
        """Remove what an interrupted snapshot left behind."""

    async def check_instance_shared_storage_local(self, guest: Guest) -> SharedStorageProbe | None:
        """Create a mark on the guest's disks; None: they are not files of this host."""

    async def check_instance_shared_storage_cleanup(self, probe: SharedStorageProbe) -> None:
        """Delete the mark."""
