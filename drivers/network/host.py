"""The network of this host, put together: what a driver hands its verbs on to."""

from collections.abc import Callable, Sequence

from bringup.drivers.base import FilterChange, Guest
from bringup.drivers.needs import Need
from bringup.drivers.network.firewall import Nftables
from bringup.drivers.network.plugging import Plugging


class HostNetwork:
    """:class:`bringup.drivers.network.base.Network` over the kernel and Open vSwitch; each part may be left out.

    Nova raises nothing where it has no part in a thing, so neither does this: a part that is left out does nothing.
    """

    def __init__(self, *, plugging: Plugging | None, firewall: Nftables | None) -> None:
        """Take who plugs and who filters; None: somebody else does."""
        self._plugging = plugging
        self._firewall = firewall

    async def open(self) -> None:
        """Make ready; see :meth:`Nftables.open`."""
        if self._firewall is not None:
            await self._firewall.open()

    async def close(self) -> None:
        """Let go: nothing is held between calls."""

    async def look(self, guests: Sequence[Guest]) -> Sequence[Need]:
        """Tell what guests together need of the host; see :meth:`.base.Network.look`."""
        needs = []
        plugging = self._plugging
        if plugging is not None and any(plugging.wants_open_vswitch(guest) for guest in guests):
            needs.append(await plugging.look())
        if self._firewall is not None:
            needs.append(await self._firewall.look())
        return needs

    def makes(self, guest: Guest) -> frozenset[str]:
        """Give what is made for a guest; see :meth:`Plugging.makes`."""
        return frozenset() if self._plugging is None else self._plugging.makes(guest)

    async def plug_vifs(self, guest: Guest, *, several_queues: frozenset[str] | None = None) -> None:
        """Make the NICs of a guest ready; see :meth:`Plugging.plug`."""
        if self._plugging is not None:
            await self._plugging.plug(guest, several_queues=several_queues)

    async def make_ready(self, guest: Guest, *, several_queues: frozenset[str] | None = None) -> None:
        """Make the NICs of a guest ready and put its rules in place; see :meth:`.base.Network.make_ready`."""
        if self._plugging is not None:
            await self._plugging.plug(guest, several_queues=several_queues, to_start=True)
        if self._firewall is not None:
            await self._firewall.ensure(guest, at_once=True)

    async def ensure_filtering_rules_for_instance(self, guest: Guest) -> None:
        """Put the rules of a guest in place; see :meth:`Nftables.ensure`."""
        if self._firewall is not None:
            await self._firewall.ensure(guest)

    async def keep_filtering_rules(self, told: Callable[[FilterChange], None]) -> None:
        """Put rules back that somebody else takes away; see :meth:`Nftables.keep`."""
        if self._firewall is not None:
            await self._firewall.keep(told)

    async def filter_defer_apply_on(self) -> None:
        """Collect rules from now on."""
        if self._firewall is not None:
            self._firewall.defer()

    async def filter_defer_apply_off(self) -> None:
        """Apply what was collected; see :meth:`Nftables.apply_deferred`."""
        if self._firewall is not None:
            await self._firewall.apply_deferred()

    async def forget(self, guest: Guest) -> None:
        """Take away ports and rules of a guest that was destroyed; the rules also when the ports could not be."""
        try:
            if self._plugging is not None:
                await self._plugging.unplug(guest)
        finally:
            if self._firewall is not None:
                await self._firewall.forget(guest)
