"""The driver of the simulated host: each of Nova's verbs, and what it does to the hypervisor."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from bringup.drivers.base import AvailableResource, FilterChange, Guest, GuestInfo, RebootType, SharedStorageProbe
from bringup.drivers.needs import Need
from bringup.drivers.simulated import transitions
from bringup.drivers.simulated.controls import Controls


class SimulatedDriver(Controls):
    """A hypervisor of the process that asks: :class:`bringup.drivers.base.Driver` over a scenario."""

    async def init_host(self, host: str) -> None:
        """Make the hypervisor ready; again is fine."""
        await self._perform("init_host", "", partial(self._open, host), host=host)

    async def close(self) -> None:
        """Let go of the hypervisor; guests are left as they are."""
        await self._perform("close", "", self._close)

    async def list_instance_uuids(self) -> list[str]:
        """UUIDs of the guests, in the order of the scenario."""
        return await self._perform("list_instance_uuids", "", lambda: list(self.hypervisor.guests))

    async def list_instances(self) -> list[str]:
        """Names of the guests, in the order of the scenario."""
        return await self._perform(
            "list_instances", "", lambda: [guest.name for guest in self.hypervisor.guests.values()]
        )

    async def get_available_resource(self) -> AvailableResource:
        """Tell what the scenario says that this host has."""
        return await self._perform("get_available_resource", "", lambda: self.hypervisor.resources)

    async def capabilities_as_traits(self) -> frozenset[str]:
        """Tell what the scenario says that this host can do."""
        return await self._perform("capabilities_as_traits", "", lambda: self.hypervisor.traits)

    async def get_info(self, guest: Guest) -> GuestInfo:
        """Look at a guest; allowed while another verb works on it."""
        uuid = guest.uuid
        return await self._perform("get_info", uuid, lambda: GuestInfo(self.hypervisor.guest(uuid).power_state))

    async def needs(self, guest: Guest) -> Sequence[Need]:
        """Tell what the scenario says that a start of the guest relies on; its definition where there is none."""
        uuid = guest.uuid
        return await self._perform("needs", uuid, lambda: self.hypervisor.needs(uuid, self.ready_for_s()))

    async def host_needs(self, guests: Sequence[Guest]) -> Sequence[Need]:
        """Tell what this host was made to lack, or to have."""
        return await self._perform("host_needs", "", lambda: tuple(self.hypervisor.host_needs), guests=guests)

    async def plug_vifs(self, guest: Guest) -> None:
        """Plug the VIFs of a guest, which need not be there."""
        await self._perform("plug_vifs", guest.uuid, partial(self.hypervisor.plug_vifs, guest.uuid))

    async def ensure_filtering_rules_for_instance(self, guest: Guest) -> None:
        """Put the firewall rules of a guest in place, or collect them."""
        verb: Final = "ensure_filtering_rules_for_instance"
        await self._perform(verb, guest.uuid, partial(self.hypervisor.filter, guest.uuid))

    async def keep_filtering_rules(self, notify: Callable[[FilterChange], None]) -> None:
        """Return: nobody else changes the rules of a simulated host."""
        await self._perform("keep_filtering_rules", "", lambda: None, notify=notify)

    async def filter_defer_apply_on(self) -> None:
        """Collect firewall rules from now on."""
        await self._perform("filter_defer_apply_on", "", self.hypervisor.firewall.defer)

    async def filter_defer_apply_off(self) -> None:
        """Apply what was collected as one transaction."""
        await self._perform("filter_defer_apply_off", "", self.hypervisor.firewall.apply)

    async def power_on(self, guest: Guest) -> None:
        """Start a guest; one that runs goes on."""
        move = partial(self.hypervisor.move, "power_on", guest.uuid, transitions.POWER_ON)
        await self._perform("power_on", guest.uuid, move)

    async def power_off(self, guest: Guest, *, timeout_s: float, retry_interval_s: float) -> None:
        """Stop a guest; it takes the latency of the scenario, whatever ``timeout_s`` allows."""
        move = partial(self.hypervisor.move, "power_off", guest.uuid, transitions.POWER_OFF)
        await self._perform("power_off", guest.uuid, move, timeout_s=timeout_s, retry_interval_s=retry_interval_s)

    async def reboot(self, guest: Guest, reboot_type: RebootType) -> None:
        """Restart a guest; a soft reboot needs one that runs."""
        moves = transitions.SOFT_REBOOT if reboot_type is RebootType.SOFT else transitions.HARD_REBOOT
        move = partial(self.hypervisor.move, f"reboot ({reboot_type.value})", guest.uuid, moves)
        await self._perform("reboot", guest.uuid, move, reboot_type=reboot_type)

    async def unpause(self, guest: Guest) -> None:
        """Let a frozen guest go on."""
        move = partial(self.hypervisor.move, "unpause", guest.uuid, transitions.UNPAUSE)
        await self._perform("unpause", guest.uuid, move)

    async def resume_state_on_host_boot(self, guest: Guest) -> None:
        """Start a guest that is off; any other stays as it is."""
        verb: Final = "resume_state_on_host_boot"
        move = partial(self.hypervisor.move, verb, guest.uuid, transitions.RESUME_ON_BOOT)
        await self._perform(verb, guest.uuid, move)

    async def destroy(self, guest: Guest, *, destroy_disks: bool) -> None:
        """Forget a guest, with or without its disks; one that is not there is fine."""
        effect = partial(self.hypervisor.destroy, guest.uuid, destroy_disks=destroy_disks)
        await self._perform("destroy", guest.uuid, effect, destroy_disks=destroy_disks)

    async def keep_disks(self, guest: Guest) -> Sequence[str]:
        """Move the disks of a guest aside."""
        return await self._perform("keep_disks", guest.uuid, partial(self.hypervisor.keep_disks, guest.uuid))

    async def delete_kept_disks(self, uuid: str, where: Sequence[str]) -> None:
        """Delete disks that were moved aside."""
        effect = partial(self.hypervisor.delete_kept_disks, uuid)
        await self._perform("delete_kept_disks", uuid, effect, where=tuple(where))

    async def finish_revert_migration(self, guest: Guest, *, power_on: bool) -> None:
        """Take a guest back, running or off."""
        moves = transitions.POWER_ON if power_on else transitions.POWER_OFF
        move = partial(self.hypervisor.take_back, guest.uuid, moves)
        await self._perform("finish_revert_migration", guest.uuid, move, power_on=power_on)

    async def live_migration_abort(self, guest: Guest) -> None:
        """Stop a live migration."""
        await self._perform("live_migration_abort", guest.uuid, partial(self.hypervisor.abort_migration, guest.uuid))

    async def post_interrupted_snapshot_cleanup(self, guest: Guest) -> None:
        """Remove what a snapshot left; there may be nothing."""
        verb: Final = "post_interrupted_snapshot_cleanup"
        await self._perform(verb, guest.uuid, partial(self.hypervisor.clean_up_snapshot, guest.uuid))

    async def check_instance_shared_storage_local(self, guest: Guest) -> SharedStorageProbe | None:
        """Leave a mark on a guest's disks; None where they are not files of this host."""
        verb: Final = "check_instance_shared_storage_local"
        return await self._perform(verb, guest.uuid, partial(self.hypervisor.leave_probe, guest.uuid))

    async def check_instance_shared_storage_cleanup(self, probe: SharedStorageProbe) -> None:
        """Take the mark away."""
        verb: Final = "check_instance_shared_storage_cleanup"
        await self._perform(verb, probe.uuid, partial(self.hypervisor.probes.discard, probe))
