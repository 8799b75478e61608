"""Needs of a guest before it can be started: values that a driver returns and the decision core reads.

A need says what is relied on, whether it is there, and who can provide it.  A table of the decision core has what
follows from a need that is not met.  No I/O, no clock, no logger.
"""

import enum
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field

from bringup.drivers.errors import DriverError, InstanceNotFound


class NeedKind(enum.Enum):
    """Kind of thing that a guest relies on."""

    DEFINITION = "definition"
    """The hypervisor's own definition of the guest."""
    DISK = "disk"
    """A block device or a file that the guest has as a disk, a CD or a backing file of one."""
    MOUNT = "mount"
    """A file system that must be mounted, or a path of the guest leads elsewhere."""
    SHARE = "share"
    """A folder that the guest gets as a file system (virtiofs, 9p)."""
    NETWORK = "network"
    """A bridge, a switch, a parent device or a libvirt network that a NIC is attached to."""
    HOST_DEVICE = "host_device"
    """A PCI device, a virtual function, a mediated device, a USB device."""
    SECRET = "secret"  # noqa: S105 - a kind of need
    """A secret that opens a disk."""
    FIRMWARE = "firmware"
    """A firmware image, its variable store, a kernel."""
    MEMORY = "memory"
    """Huge pages; memory that was saved."""
    CLOCK = "clock"
    """The wall clock, if the downtime of the host matters."""
    MACHINE = "machine"
    """A machine type, a CPU model, the CPUs of a pin, an accelerator such as KVM."""
    PAUSE = "pause"
    """The end of a pause of starts, which an operator has requested."""


class NeedState(enum.Enum):
    """State of a need."""

    MET = "met"
    ABSENT = "absent"
    """It does not exist."""
    UNVERIFIED = "unverified"
    """A thing of that name exists, and nothing proves that it is the right one; or it cannot be checked."""


class MetBy(enum.Enum):
    """Party that can meet a need."""

    HOST = "host"
    """This host by itself: it may appear without any action (a mount, a link, a device)."""
    NOVA = "nova"
    """nova-compute, which prepares it when it starts or hard reboots the guest."""
    REVERT = "revert"
    """The roll-back of the resize or migration that moved it aside (``finish_revert_migration``)."""
    PERSON = "person"
    """An operator, or the user of the guest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One thing that a guest relies on."""

    kind: NeedKind
    name: str
    """Name by which an operator finds it: a path, a bridge, a PCI address, a UUID; bounded, printable."""
    state: NeedState
    met_by: MetBy = MetBy.HOST
    """The one who can meet it, if it is not met."""
    why: str = ""
    """What was found, as the end of a sentence: "no such block device"; empty if it is met."""
    origin: object = field(default=None, compare=False, repr=False)
    """What its driver watches to notice that it is met, where kind and name do not say it; of use to that driver."""


@dataclass(frozen=True, slots=True)
class LinkOrigin:
    """Origin of a need that is met when a network link of its name appears."""


class NeedNotMet(DriverError):
    """A verb was not carried out, or failed, because the host lacks what the guest needs.

    The guest is off as before, and its record is right.  The caller defers it.
    """

    def __init__(self, message: str, needs: Sequence[Need]) -> None:
        """Store the needs that are not met beside the message."""
        super().__init__(message)
        self.needs = tuple(needs)


class DefinitionGone(NeedNotMet, InstanceNotFound):
    """The hypervisor has no such guest, and it was to be started: nova-compute can define it again."""


def of_failed_look(guest: str, error: Exception) -> Need:
    """Build the need that stands for unknown needs: nothing is started on a guess."""
    if isinstance(error, InstanceNotFound):
        return Need(
            kind=NeedKind.DEFINITION,
            name=guest,
            state=NeedState.ABSENT,
            met_by=MetBy.NOVA,
            why="the hypervisor has no such guest",
        )
    if isinstance(error, NotImplementedError):
        why, met_by = "this driver cannot tell what a guest needs", MetBy.PERSON
    else:
        why, met_by = f"what it needs could not be found out: {str(error) or type(error).__name__}", MetBy.HOST
    return Need(kind=NeedKind.DEFINITION, name=guest, state=NeedState.UNVERIFIED, met_by=met_by, why=why)


def unmet_needs(needs: Sequence[Need]) -> list[Need]:
    """Return the needs that are not met."""
    return [each for each in needs if each.state is not NeedState.MET]


def describe_unmet(what: str, needs: Sequence[Need]) -> str:
    """Return a sentence with all needs that are not met."""
    return f"did not {what}: " + "; ".join(f"{each.kind.value} {each.name}: {each.why}" for each in needs)


async def require_needs(guest: str, needs: Awaitable[Sequence[Need]]) -> None:
    """Make sure, right before a guest is started, that all that it needs is there.

    :raises NeedNotMet: something is not, or what it needs cannot be read.
    """
    cause: Exception | None = None
    try:
        missing = unmet_needs(await needs)
    except Exception as error:  # noqa: BLE001 - whatever went wrong: nothing is started on a guess
        missing, cause = [of_failed_look(guest, error)], error
    if missing:
        is_gone = missing[0].kind is NeedKind.DEFINITION and missing[0].state is NeedState.ABSENT
        kind = DefinitionGone if is_gone else NeedNotMet
        raise kind(describe_unmet(f"start {guest}", missing), missing) from cause
