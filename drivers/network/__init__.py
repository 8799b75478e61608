"""The host's network: NICs of guests (Linux bridge, Open vSwitch) and packet filtering (nftables).

A hypervisor's driver uses ``host``.  What there should be is computed by pure functions (``rules/vifs``,
``rules/ports``, ``rules/links`` for NICs; ``rules/addresses``, ``rules/spoofing``, ``rules/port_filter``,
``rules/ruleset`` for packets), and done by a thin shell (``netlink``, ``ovs``, ``plugging``, ``firewall``).
"""

from pathlib import Path

from bringup.drivers.network.firewall import Nftables
from bringup.drivers.network.host import HostNetwork
from bringup.drivers.network.netlink import Netlink
from bringup.drivers.network.ovs import OpenVSwitch
from bringup.drivers.network.plugging import PCI_DEVICES, Plugging
from bringup.drivers.network.rules.ports import wants_taps

__all__ = ["HostNetwork", "make_host_network", "wants_taps"]

DEADLINE_S = 30.0


def make_host_network(  # noqa: PLR0913 - each is a setting
    *,
    plugs: bool = True,
    filters: bool = False,
    ovs_bridge: str = "br-int",
    ovsdb: str | None = None,
    isolates_vifs: bool = False,
    deadline_s: float = DEADLINE_S,
    pci_devices: Path = PCI_DEVICES,
) -> HostNetwork:
    """Put the network of this host together; it is not opened yet.

    ``ovs_bridge`` is for VIFs that name no bridge; ``ovsdb`` is where Open vSwitch's database listens (``unix:PATH``);
    ``isolates_vifs``: a port that is made is in no network until Neutron's agent has put it into one.
    """
    plugging = Plugging(
        netlink=Netlink(deadline_s=deadline_s),
        open_vswitch=OpenVSwitch(database=ovsdb, deadline_s=deadline_s, isolates=isolates_vifs),
        ovs_bridge=ovs_bridge,
        pci_devices=pci_devices,
    )
    return HostNetwork(
        plugging=plugging if plugs else None, firewall=Nftables(deadline_s=deadline_s) if filters else None
    )
