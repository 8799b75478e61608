"""What a VIF needs on the host, as values.  Pure; ``ports`` says which VIF needs what."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bringup.drivers.network.rules.links import LinkWanted


class NotOurs(Exception):
    """Such a VIF is plugged by others, or asks for what is not known here; the text says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OvsPort:
    """A port in Open vSwitch."""

    bridge: str
    datapath_type: str | None
    name: str | None = None
    """None: only the bridge has to be there, libvirt makes the port."""
    interface_id: str = ""
    mac: str = ""
    instance: str = ""
    type: str | None = None
    """Open vSwitch's type of the interface."""
    options: tuple[tuple[str, str], ...] = ()
    mtu_request: int | None = None
    """For interfaces that are no device of the kernel; bytes."""

    @property
    def is_trunk(self) -> bool:
        """Tell whether the bridge is one of a trunk: its own for each, by Neutron's and os-vif's name for them."""
        return self.bridge.startswith("tbr-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """All that one VIF needs.  Links are made before the port: Open vSwitch looks for the device at once."""

    links: tuple[LinkWanted, ...] = ()
    ovs: OvsPort | None = None
    pci_slot: str | None = None
    """Address of a PCI device that must be there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What else decides, beside the VIF."""

    instance: str
    ovs_bridge: str
    """Where a VIF names no bridge (Nova's ``[neutron] ovs_bridge``)."""
    system_metadata: Mapping[str, str] = field(default_factory=dict)
    several_queues: frozenset[str] | None = None
    """MACs of the guest's NICs that are defined with several queues; None: that is not known."""
