"""What a hypervisor's driver asks of the host's network: NICs made ready, packets filtered.

The verbs are those of :class:`bringup.drivers.base.Driver`; a driver hands them on.  All may be repeated, also after a
kill half-way: what is right already is left alone.  No I/O stands here.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from bringup.drivers.base import FilterChange, Guest
from bringup.drivers.needs import Need


class Network(Protocol):
    """The network of this host.  Every verb has a deadline of its own; the caller may set a shorter one."""

    async def open(self) -> None:
        """Learn what earlier processes have left, and whether there is what it needs; the other verbs do so too.

        :raises NeedNotMet: what it needs is not on this host.
        """

    async def close(self) -> None:
        """Let go of what was opened.  Ports and rules stay as they are."""

    async def look(self, guests: Sequence[Guest]) -> Sequence[Need]:
        """Tell what guests together need of the host and its services, met or not; nothing is changed.

        What only others' guests would need is not looked at.
        """

    def makes(self, guest: Guest) -> frozenset[str]:
        """Give the names of what :meth:`make_ready` makes for a guest where it is not there: bridges, taps, sockets."""

    async def plug_vifs(self, guest: Guest, *, several_queues: frozenset[str] | None = None) -> None:
        """Make the NICs of a guest ready, as far as libvirt does not when it starts the guest.

        ``several_queues`` are the MACs of the NICs that the guest is defined to have with several queues; None: that is
        not known, and its image says so.

        :raises VirtualInterfacePlugError: one of them is wrong; the sentence names the VIF and the device.
        :raises NeedNotMet: this host lacks what one of them needs: nothing is wrong with the record.
        """

    async def make_ready(self, guest: Guest, *, several_queues: frozenset[str] | None = None) -> None:
        """Do all that a guest needs before it is started: its NICs, and its rules at once, deferred or not.

        What a driver calls before each start, as Nova's libvirt driver does: so no guest runs without its rules, nor
        with a NIC that is plugged by halves.

        :raises VirtualInterfacePlugError: see :meth:`plug_vifs`.
        :raises NeedNotMet: the same; also for a NIC that only others can plug, and where its rules cannot be put in
            place because nft is away.
        :raises DriverError: its rules could not be put in place.
        """

    async def ensure_filtering_rules_for_instance(self, guest: Guest) -> None:
        """Put the rules of a guest in place of those that it has; while deferred, remember them.

        :raises DriverError: they could not be put in place, and those that it had are still there.
        """

    async def keep_filtering_rules(self, told: Callable[[FilterChange], None]) -> None:
        """Put rules back that somebody else takes away or changes, until cancelled; returns where none are kept."""

    async def filter_defer_apply_on(self) -> None:
        """Collect rules from now on."""

    async def filter_defer_apply_off(self) -> None:
        """Apply what was collected as one transaction, and each guest's rules at once from now on.

        :raises DriverError: it names the guests whose rules could not be applied; those of all others are in place.
        """

    async def forget(self, guest: Guest) -> None:
        """Take away ports and rules of a guest that was destroyed; it may have none."""
