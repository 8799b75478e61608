"""What a guest needs of its host before it can be started: values that a driver gives and the decision core reads.

A need says what is relied on, whether it is there, and who can bring it.  What follows from a need that is not met is a
table of the decision core.  No I/O, no clock, no logger.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from bringup.drivers.errors import DriverError, InstanceNotFound


class NeedKind(enum.Enum):
    """What sort of thing a guest relies on."""

    DEFINITION = "definition"
    """The hypervisor's own definition of the guest."""
    DISK = "disk"
    """A block device or a file that the guest has as a disk, a CD or a backing file of one."""
    MOUNT = "mount"
    """A file system that must be mounted for a file of the guest to be what it says."""
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
    """The wall clock, where it matters how long the host was away."""
    MACHINE = "machine"
    """A machine type, a CPU model, the CPUs of a pin, an accelerator such as KVM."""


class NeedState(enum.Enum):
    """Whether a need is met."""

    MET = "met"
    ABSENT = "absent"
    """It is not there."""
    UNVERIFIED = "unverified"
    """Something of that name is there, and nothing proves that it is the right one; or that cannot be found out."""


class MetBy(enum.Enum):
    """Who can meet a need that is not met."""

    HOST = "host"
    """This host by itself: it may come without anybody doing anything (a mount, a link, a device)."""
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
    """What it is, as a person would look for it: a path, a bridge, a PCI address, a UUID; bounded, printable."""
    state: NeedState
    met_by: MetBy = MetBy.HOST
    """Who can meet it where it is not met."""
    why: str = ""
    """What was found, as the end of a sentence: "no such block device"; empty where it is met."""


class NeedNotMet(DriverError):
    """A verb was not carried out, or failed, because the host lacks what the guest needs.

    The guest is off as before; nothing about its record is wrong.  The caller defers it.
    """

    def __init__(self, message: str, needs: Sequence[Need]) -> None:
        """Keep the needs that are not met beside the sentence."""
        super().__init__(message)
        self.needs = tuple(needs)


class DefinitionGone(NeedNotMet, InstanceNotFound):
    """The hypervisor has no such guest, and it was to be started: who defines guests can define it again."""
