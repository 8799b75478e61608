"""What a guest's needs are judged by: what libvirt told, what the record says, what this host looks like."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bringup.drivers.libvirt.guest_needs.host import Host
from bringup.drivers.libvirt.guest_needs.rules.definition import Definition
from bringup.drivers.libvirt.guest_needs.rules.disk_identity import Volume
from bringup.drivers.libvirt.guest_needs.rules.mounts import Mounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What libvirt says of a guest."""

    definitions: tuple[Definition, ...]
    """Its own, and that of its managed save image."""
    active: bool
    answers: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Kind and name of what it was asked for, to what is wrong with it; "" where nothing is."""
    volumes: Mapping[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    """Pool and volume to type and path."""
    idle_pools: Mapping[str, str] = field(default_factory=dict)
    """Folder of a pool that is not active, to the pool's name."""
    online: frozenset[int] = frozenset()
    """CPUs; empty where it cannot tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """All that one look goes by."""

    host: Host
    told: Told
    definition: Definition
    mounts: Mounts
    expected: Mapping[str, str]
    """Mount points that fstab, systemd or a pool of libvirt names, to what should be there."""
    nova_base: str
    volumes: tuple[Volume, ...] = ()
    profiles: Mapping[str, str] = field(default_factory=dict)
    """PCI address to vendor and product, as the record has them."""
    made: frozenset[str] = frozenset()
    """Devices that are made before the guest is started."""
    nics_in_record: int = 0
    sees_host: bool = True
    """This process sees the file systems that libvirt sees."""

    def mounts_at(self, path: str) -> Mounts:
        """Give what is mounted, after a look into a folder that is only mounted then (autofs)."""
        covering = self.mounts.covering(path)
        if covering is None or covering.type != "autofs":
            return self.mounts
        self.host.is_empty(path)
        return self.host.mounts()
