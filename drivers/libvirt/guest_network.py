"""The network of guests that libvirt has defined: made ready before they are started, as their definitions say."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from bringup.drivers.base import FilterChange, Guest, InstanceNotFound
from bringup.drivers.libvirt.binding import Connection
from bringup.drivers.libvirt.definitions import nics_with_several_queues
from bringup.drivers.needs import Need, NeedNotMet, NeedState
from bringup.drivers.network.host import HostNetwork
from bringup.drivers.network.rules.vif_types import needs_taps

_Macs: TypeAlias = frozenset[str]


class GuestNetwork:
    """NICs and firewall rules of guests; without a ``network`` of this host both are left to libvirt."""

    def __init__(
        self, network: HostNetwork | None, ask: Callable[[str, Callable[[Connection], _Macs]], Awaitable[_Macs]]
    ) -> None:
        """Store the network, and what asks libvirt."""
        self.of_host = network
        self._ask = ask

    @property
    def own(self) -> HostNetwork:
        """The network of this host.

        :raises NotImplementedError: there is none.
        """
        if self.of_host is None:
            raise NotImplementedError(
                "this driver has no network: libvirt makes NICs ready as the guest's definition says"
            )
        return self.of_host

    async def check(self, guests: Sequence[Guest]) -> Sequence[Need]:
        """Return what guests together need of the host and its services."""
        return () if self.of_host is None else await self.of_host.check(guests)

    def created_names(self, guest: Guest) -> frozenset[str]:
        """Return the names of what is created for a guest if it is missing."""
        return frozenset() if self.of_host is None else self.of_host.created_names(guest)

    async def plug_vifs(self, guest: Guest) -> None:
        """Make the NICs of a guest ready."""
        await self.own.plug_vifs(guest, several_queues=await self._several_queues(guest))

    async def make_ready(self, guest: Guest) -> None:
        """Make the NICs of a guest ready and apply its rules, before it is started: none runs without them."""
        if self.of_host is not None:
            await self.of_host.make_ready(guest, several_queues=await self._several_queues(guest))

    async def keep_filtering_rules(self, notify: Callable[[FilterChange], None]) -> None:
        """Restore firewall rules that another program deletes or changes."""
        if self.of_host is not None:
            await self.of_host.keep_filtering_rules(notify)

    async def require(self, guest: Guest, to: str) -> None:
        """Ensure that what was created for a guest's NICs can be deleted.

        :raises NeedNotMet: it cannot: Open vSwitch or nft is unavailable.
        """
        unmet = [need for need in await self.check([guest]) if need.state is not NeedState.MET]
        if unmet:
            reasons = "; ".join(f"{need.name}: {need.why}" for need in unmet)
            raise NeedNotMet(f"did not {to}: {reasons}", unmet)

    async def forget(self, guest: Guest) -> None:
        """Delete what was created for the NICs of a guest that was destroyed, and its rules."""
        if self.of_host is not None:
            await self.of_host.forget(guest)

    async def _several_queues(self, guest: Guest) -> _Macs | None:
        """Return the MACs of NICs that are defined with several queues; None: not needed, or not defined."""
        if not needs_taps(guest):
            return None
        try:
            return await self._ask(
                f"read the definition of {guest.uuid}",
                lambda connection: nics_with_several_queues(connection.lookupByUUIDString(guest.uuid).XMLDesc()),
            )
        except InstanceNotFound:
            return None
