"""The driver for libvirt: :class:`bringup.drivers.base.Driver` over the guests that libvirt has defined.

It starts what is defined and defines nothing: a guest of which libvirt knows nothing is
:class:`~bringup.drivers.base.InstanceNotFound`.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio

from bringup.drivers.base import (
    Guest,
    GuestInfo,
    InstanceNotFound,
    RebootType,
)
from bringup.drivers.libvirt.autostart_conflicts import is_local
from bringup.drivers.libvirt.domains import DefinedGuest, guests_of, guests_that_want_kvm
from bringup.drivers.libvirt.local_disks import LocalDisks
from bringup.drivers.libvirt.migrated import take_back
from bringup.drivers.libvirt.needed.host import NOTHING_SEEN, Host
from bringup.drivers.libvirt.needed.look import Looking, definition_gone, sentence, unmet
from bringup.drivers.libvirt.options import LibvirtOptions
from bringup.drivers.libvirt.power import Check, Rebooting
from bringup.drivers.libvirt.snapshots import clean_up_after_snapshot
from bringup.drivers.libvirt.starting import deferring
from bringup.drivers.libvirt.traits import traits_of
from bringup.drivers.needs import DefinitionGone, Need, NeedKind, NeedNotMet
from bringup.drivers.network import Network

T = TypeVar("T")


class LibvirtDriver(LocalDisks):
    """A hypervisor that libvirt speaks to."""

    def __init__(self, options: LibvirtOptions, network: Network | None = None) -> None:
        """Open nothing yet; without a ``network`` NICs and firewall are left to libvirt."""
        super().__init__(options, network)
        local = is_local(options.uri)
        self._looking = Looking(
            Host() if local else NOTHING_SEEN,
            options.instances_path,
            deadline_s=options.look_deadline_s,
            is_local=local,
        )
        self._reboots: dict[str, Rebooting] = {}
        """Those that did not end, or not in time; libvirt may have done them all the same."""

    async def list_instance_uuids(self) -> list[str]:
        """UUIDs of the guests, running or not."""
        return await self._ask(
            "list the guests", lambda connection: [domain.UUIDString() for domain in connection.listAllDomains()]
        )

    async def defined_guests(self) -> list[DefinedGuest]:
        """List the guests as records are made of them, by name."""
        return await self._ask("list the guests", guests_of)

    async def guests_that_want_kvm(self) -> list[str]:
        """List the names of those that do not start without."""
        return await self._ask("list the guests that want KVM", guests_that_want_kvm)

    async def list_instances(self) -> list[str]:
        """Names of the guests, running or not."""
        return await self._ask(
            "list the guests", lambda connection: [domain.name() for domain in connection.listAllDomains()]
        )

    async def capabilities_as_traits(self) -> frozenset[str]:
        """Tell what libvirt says of CPU and devices."""
        libvirt = self._host.libvirt
        return await self._ask("ask what the host can do", lambda connection: traits_of(connection, libvirt))

    async def get_info(self, guest: Guest) -> GuestInfo:
        """Look at a guest."""
        return GuestInfo(await self._host.again(f"look at {guest.uuid}", partial(self._host.state, guest.uuid)))

    async def needs(self, guest: Guest) -> Sequence[Need]:
        """Tell what a start of the guest relies on, as libvirt, the record and this host say; nothing is changed."""
        made = frozenset[str]() if self._network is None else self._network.makes(guest)
        look = partial(self._looking.needs, self._host, guest, made)
        return await self._with_kept_disks(guest.uuid, await self._host.again(f"ask what {guest.uuid} needs", look))

    @deferring()
    async def power_on(self, guest: Guest) -> None:
        """Start a guest, from its managed save image if it has one; one that runs goes on."""
        await self._make_network_ready(guest)
        await self._start(guest, "start", partial(self._power.power_on, guest.uuid, self._check(guest)))

    async def power_off(self, guest: Guest, *, timeout_s: float, retry_interval_s: float) -> None:
        """Stop a guest: ask it for ``timeout_s`` seconds, again each ``retry_interval_s``, then pull the plug."""
        if timeout_s:
            await self._ask_to_shut_down(guest.uuid, timeout_s, retry_interval_s)
        await self._host.again(f"stop {guest.uuid}", partial(self._power.pull_the_plug, guest.uuid))

    @deferring()
    async def reboot(self, guest: Guest, reboot_type: RebootType) -> None:
        """Restart a guest; one that does not follow a soft reboot in time is restarted hard."""
        uuid, options = guest.uuid, self._options
        # One that cannot be started again is not stopped.
        await self._check(guest)()
        soft = reboot_type is RebootType.SOFT
        if soft and await self._ask_to_shut_down(uuid, options.soft_reboot_s, options.ask_again_s):
            # Where it was off before nothing was asked: started it is all the same.
            await self.power_on(guest)
            return
        await self._make_network_ready(guest)
        # Tried again it goes on where this one was: no plug is pulled twice for one reboot.
        course = self._reboots.setdefault(uuid, Rebooting())
        await self._start(guest, "reboot", partial(self._power.hard_reboot, uuid, course, self._check(guest)))
        self._reboots.pop(uuid, None)

    async def unpause(self, guest: Guest) -> None:
        """Let a frozen guest go on, or one that sleeps."""
        await self._host.again(f"unpause {guest.uuid}", partial(self._power.unpause, guest.uuid))

    @deferring()
    async def resume_state_on_host_boot(self, guest: Guest) -> None:
        """Start a guest that is off; any other stays as it is."""
        await self._make_network_ready(guest)
        await self._start(guest, "resume", partial(self._power.resume_on_boot, guest.uuid, self._check(guest)))

    async def destroy(self, guest: Guest, *, destroy_disks: bool) -> None:
        """Stop a guest, take its definition away, then its NICs and rules; its local disks only when asked to."""
        uuid = guest.uuid
        # Before anything is taken away: what is begun here is finished.
        await self._see_network(guest)
        if destroy_disks:
            await self._see_disks(f"delete the disks of {uuid}", uuid)
        await self._host.again(f"destroy {uuid}", partial(self._power.undefine, uuid))
        if self._network is not None:
            await self._network.forget(guest)
        if destroy_disks:
            await self._delete_disks(uuid)

    @deferring()
    async def finish_revert_migration(self, guest: Guest, *, power_on: bool) -> None:
        """Take a guest back: its folder, its definition, and running if it ran."""
        uuid = guest.uuid
        await self._take_disks_back(uuid)
        definition = await self._on_disk(f"read the definition of {uuid}", partial(self._disks.definition, uuid))
        await self._start(guest, "take back", partial(take_back, self._host, uuid, definition))
        if power_on:
            await self.power_on(guest)

    async def live_migration_abort(self, guest: Guest) -> None:
        """Stop the live migration of a guest."""
        uuid = guest.uuid
        await self._host.do("abort the live migration of", uuid, lambda domain: domain.abortJob())

    async def post_interrupted_snapshot_cleanup(self, guest: Guest) -> None:
        """End the copy that a snapshot was making, and remove it; give the guest its definition back."""
        uuid, left = guest.uuid, list[Path]()
        clean_up = partial(clean_up_after_snapshot, self._host, self._power, uuid, left)
        await self._host.again(f"clean up after a snapshot of {uuid}", clean_up)
        for path in left:
            await self._on_disk(f"remove {path}", partial(self._disks.remove_copy, uuid, path))

    async def _ask_to_shut_down(self, uuid: str, for_s: float, every_s: float) -> bool:
        deadline = anyio.current_time() + for_s
        ask = partial(self._power.ask_to_shut_down, uuid, deadline=deadline, every_s=every_s)
        return await self._host.again(f"shut down {uuid}", ask)

    def _check(self, guest: Guest) -> Check:
        """Give what raises where something that a start of the guest relies on is not met.

        Nothing is done to a guest that cannot be started: it is looked at before one is stopped, and right before it is
        started.
        """

        async def check() -> None:
            if missing := unmet(await self.needs(guest)):
                kind = DefinitionGone if missing[0].kind is NeedKind.DEFINITION else NeedNotMet
                raise kind(sentence(f"start {guest.uuid}", missing), missing)

        return check

    async def _start(self, guest: Guest, what: str, attempt: Callable[[], Awaitable[None]]) -> None:
        try:
            await self._host.again(f"{what} {guest.uuid}", attempt)
        except NeedNotMet:
            raise
        except InstanceNotFound as error:
            missing = [definition_gone(guest)]
            raise DefinitionGone(sentence(f"{what} {guest.uuid}", missing), missing) from error
