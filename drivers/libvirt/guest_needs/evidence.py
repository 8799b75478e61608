"""Evidence for the needs of a guest: libvirt's answers, the record, the mounts of this host."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bringup.drivers.libvirt.guest_needs.host import HostFiles
from bringup.drivers.libvirt.guest_needs.rules.definition import Definition
from bringup.drivers.libvirt.guest_needs.rules.disk_identity import Volume
from bringup.drivers.libvirt.guest_needs.rules.mounts import Mounts


@dataclass(frozen=True, slots=True, kw_only=True)
class LibvirtAnswers:
    """Answers of libvirt about a guest."""

    definitions: tuple[Definition, ...]
    """The guest's own, and that of its managed save image."""
    active: bool
    answers: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Kind and name of what was queried, to what is wrong with it; "" for nothing."""
    volumes: Mapping[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    """Pool and volume to type and path."""
    idle_pools: Mapping[str, str] = field(default_factory=dict)
    """Folder of a pool that is not active, to the pool's name."""
    online: frozenset[int] = frozenset()
    """Online CPUs; empty if libvirt does not report them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that the check of one definition uses."""

    host: HostFiles
    libvirt: LibvirtAnswers
    definition: Definition
    mounts: Mounts
    expected: Mapping[str, str]
    """Mount points that fstab, systemd or a pool of libvirt names, to what should be there."""
    nova_base: str
    volumes: tuple[Volume, ...] = ()
    profiles: Mapping[str, str] = field(default_factory=dict)
    """PCI address to vendor and product, as the record has them."""
    made: frozenset[str] = frozenset()
    """Devices that bringup creates before it starts the guest."""
    nics_in_record: int = 0
    sees_host: bool = True
    """This process can see the file systems that libvirt uses."""

    def mounts_at(self, path: str) -> Mounts:
        """Return what is mounted, after reading a folder that is only mounted when it is read (autofs)."""
        covering = self.mounts.covering(path)
        if covering is None or covering.type != "autofs":
            return self.mounts
        self.host.is_empty(path)
        return self.host.mounts()
