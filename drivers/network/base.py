"""What a hypervisor's driver asks of the host's network: NICs made ready, packets filtered.

The verbs are those of :class:`bringup.drivers.base.Driver`; a driver hands them on.  All may be repeated, also after a
kill half-way: what is right already is left alone.  No I/O stands here.
"""

from typing import Protocol

from bringup.drivers.base import Guest


class Network(Protocol):
    """The network of this host.  Every verb has a deadline of its own; the caller may set a shorter one."""

    async def open(self) -> None:
        """Make ready; nothing else is called before.

        :raises DriverError: what it needs is not on this host.
        """

    async def close(self) -> None:
        """Let go of what was opened.  Ports and rules stay as they are."""

    async def plug_vifs(self, guest: Guest) -> None:
        """Make the NICs of a guest ready, as far as libvirt does not when it starts the guest.

        :raises VirtualInterfacePlugError: one of them could not be; it names the VIF and the device.
        :raises PciDeviceNotFound: one of them is a PCI device that is not on this host.
        """

    async def ensure_filtering_rules_for_instance(self, guest: Guest) -> None:
        """Put the rules of a guest in place of those that it has; while deferred, remember them.

        :raises DriverError: they could not be put in place, and those that it had are still there.
        """

    async def filter_defer_apply_on(self) -> None:
        """Collect rules from now on."""

    async def filter_defer_apply_off(self) -> None:
        """Apply what was collected as one transaction, and each guest's rules at once from now on.

        :raises DriverError: it names the guests whose rules could not be applied; those of all others are in place.
        """

    async def forget(self, guest: Guest) -> None:
        """Take away ports and rules of a guest that was destroyed; it may have none."""
