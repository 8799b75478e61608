"""The network of this host: NICs of guests made ready, packets filtered.

The verbs are those of :class:`bringup.drivers.base.Driver`, which a hypervisor's driver calls.  All may be repeated,
also after a kill half-way: what is right already is left alone.  Each has a deadline of its own; the caller may set a
shorter one.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from bringup.drivers.base import FilterChange, Guest
from bringup.drivers.needs import Need
from bringup.drivers.network.firewall import Nftables
from bringup.drivers.network.netlink import Netlink
from bringup.drivers.network.ovs import OpenVSwitch
from bringup.drivers.network.plugging import PCI_DEVICES, Plugging

DEADLINE_S = 30.0


class HostNetwork:
    """NICs (``plugging``) and packet filter (``firewall``) of this host; a part that is None does nothing, as in Nova.

    Nothing is held open between calls.
    """

    def __init__(self, *, plugging: Plugging | None, firewall: Nftables | None) -> None:
        """Store the parts; None: something else plugs, or filters."""
        self._plugging = plugging
        self._firewall = firewall

    async def check(self, guests: Sequence[Guest]) -> Sequence[Need]:
        """Return what guests together need of the host and its services, met or not; nothing is changed.

        What none of these guests needs is not checked.
        """
        needs = []
        plugging = self._plugging
        if plugging is not None and any(plugging.needs_open_vswitch(guest) for guest in guests):
            needs.append(await plugging.check())
        if self._firewall is not None:
            needs.append(await self._firewall.check())
        return needs

    def created_names(self, guest: Guest) -> frozenset[str]:
        """Return the names of what :meth:`make_ready` creates for a guest if it is missing: bridges, taps, sockets."""
        return frozenset() if self._plugging is None else self._plugging.created_names(guest)

    def watches(self, need: Need) -> bool:
        """Return whether :meth:`watch` is for this need: one of Open vSwitch, if that can be watched."""
        return self._plugging is not None and self._plugging.watches(need)

    async def watch(self, needs: Collection[Need], notify: Callable[[Need], None]) -> None:
        """Call ``notify`` with all of these needs when Open vSwitch may answer by now, until cancelled."""
        if self._plugging is not None:
            await self._plugging.watch(needs, notify)

    async def plug_vifs(self, guest: Guest, *, several_queues: frozenset[str] | None = None) -> None:
        """Make the NICs of a guest ready, as far as libvirt does not when it starts the guest.

        ``several_queues`` are the MACs of the NICs that the guest is defined to have with several queues; None: that is
        unknown, and its image decides.

        :raises VirtualInterfacePlugError: one of them is wrong; the message names the VIF and the device.
        :raises NeedNotMet: this host lacks what one of them needs; the record is right.
        """
        if self._plugging is not None:
            await self._plugging.plug(guest, several_queues=several_queues)

    async def make_ready(self, guest: Guest, *, several_queues: frozenset[str] | None = None) -> None:
        """Do all that a guest needs before it is started: its NICs, and its rules at once, deferred or not.

        A driver calls it before each start, as Nova's libvirt driver does: so no guest runs without its rules, nor with
        a NIC that is plugged by halves.

        :raises VirtualInterfacePlugError: see :meth:`plug_vifs`.
        :raises NeedNotMet: see :meth:`plug_vifs`; also for a NIC that only others can plug, and if nft is unavailable.
        :raises DriverError: its rules could not be applied.
        """
        if self._plugging is not None:
            await self._plugging.plug(guest, several_queues=several_queues, to_start=True)
        if self._firewall is not None:
            await self._firewall.ensure(guest, at_once=True)

    async def ensure_filtering_rules_for_instance(self, guest: Guest) -> None:
        """Replace the rules of a guest; while deferred, collect them.

        :raises DriverError: they could not be applied; the former ones are still in force.
        """
        if self._firewall is not None:
            await self._firewall.ensure(guest)

    async def keep_filtering_rules(self, notify: Callable[[FilterChange], None]) -> None:
        """Restore rules that somebody else deletes or changes, until cancelled; return at once if none are kept."""
        if self._firewall is not None:
            await self._firewall.keep(notify)

    async def filter_defer_apply_on(self) -> None:
        """Collect rules from now on."""
        if self._firewall is not None:
            self._firewall.defer()

    async def filter_defer_apply_off(self) -> None:
        """Apply what was collected as one transaction, and each guest's rules at once from now on.

        :raises DriverError: it names the guests whose rules could not be applied; those of all others are in force.
        """
        if self._firewall is not None:
            await self._firewall.apply_deferred()

    async def forget(self, guest: Guest) -> None:
        """Delete ports and rules of a guest that was destroyed; the rules also if the ports could not be deleted."""
        try:
            if self._plugging is not None:
                await self._plugging.unplug(guest)
        finally:
            if self._firewall is not None:
                await self._firewall.forget(guest)


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
