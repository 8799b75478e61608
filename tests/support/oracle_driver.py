"""A hypervisor with one guest that writes down what it is asked to do."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from bringup.drivers.base import (
    AvailableResource,
    BootSigns,
    EventListener,
    FilterChange,
    Guest,
    GuestInfo,
    InstanceNotFound,
    PowerState,
    RebootType,
    SharedStorageProbe,
    SignListener,
    VitalSigns,
)
from bringup.drivers.needs import Need
from support.oracle_trace import Trace


@dataclass(slots=True)
class TracingDriver:
    """A hypervisor with one guest.

    With ``follows`` its power state is what the calls make of it; without, each look that works gives the next of
    ``powers``, the last of them for ever.
    """

    trace: Trace
    powers: list[PowerState | None]
    """What the looks give; None: there is no such guest."""
    follows: bool

    def _became(self, power: PowerState | None) -> None:
        if self.follows:
            self.powers = [power]

    async def get_info(self, guest: Guest) -> GuestInfo:
        self.trace.call("drv.get_info")
        power = self.powers.pop(0) if len(self.powers) > 1 else self.powers[0]
        if power is None:
            raise InstanceNotFound(f"no guest {guest.uuid}")
        return GuestInfo(power)

    async def needs(self, guest: Guest) -> Sequence[Need]:
        # Nova has no such look: in its tables everything is there.
        del guest
        return ()

    def register_sign_listener(self, listener: SignListener) -> None:
        del listener

    async def boot_signs(self, uuids: Collection[str]) -> Mapping[str, BootSigns]:
        raise NotImplementedError(f"Nova does not look how {uuids} boot")

    async def vital_signs(self, uuids: Collection[str]) -> Mapping[str, VitalSigns]:
        raise NotImplementedError(f"Nova does not look how {uuids} are")

    async def host_needs(self, guests: Sequence[Guest]) -> Sequence[Need]:
        del guests
        return ()

    async def plug_vifs(self, guest: Guest) -> None:
        del guest
        self.trace.call("drv.plug_vifs")

    async def ensure_filtering_rules_for_instance(self, guest: Guest) -> None:
        del guest
        self.trace.call("drv.ensure_filtering_rules_for_instance")

    async def power_on(self, guest: Guest) -> None:
        del guest
        self.trace.call("drv.power_on")
        self._became(PowerState.RUNNING)

    async def power_off(self, guest: Guest, *, timeout_s: float, retry_interval_s: float) -> None:
        del guest
        self.trace.call(f"drv.power_off(timeout={timeout_s:g},retry_interval={retry_interval_s:g})")
        self._became(PowerState.SHUTDOWN)

    async def reboot(self, guest: Guest, reboot_type: RebootType) -> None:
        del guest
        self.trace.call(f"drv.reboot({reboot_type.value})")
        self._became(PowerState.RUNNING)

    async def unpause(self, guest: Guest) -> None:
        del guest
        self.trace.call("drv.unpause")
        self._became(PowerState.RUNNING)

    async def resume_state_on_host_boot(self, guest: Guest) -> None:
        del guest
        self.trace.call("drv.resume_state_on_host_boot")
        self._became(PowerState.RUNNING)

    async def destroy(self, guest: Guest, *, destroy_disks: bool) -> None:
        del guest
        self.trace.call(f"drv.destroy(destroy_disks={destroy_disks})")
        self._became(None)

    async def keep_disks(self, guest: Guest) -> Sequence[str]:
        del guest
        raise NotImplementedError

    async def delete_kept_disks(self, uuid: str, where: Sequence[str]) -> None:
        del uuid, where
        raise NotImplementedError

    async def finish_revert_migration(self, guest: Guest, *, power_on: bool) -> None:
        del guest
        self.trace.call(f"drv.finish_revert_migration(power_on={power_on})")
        self._became(PowerState.RUNNING if power_on else PowerState.SHUTDOWN)

    async def live_migration_abort(self, guest: Guest) -> None:
        del guest
        self.trace.call("mgr.live_migration_abort")

    async def post_interrupted_snapshot_cleanup(self, guest: Guest) -> None:
        del guest
        self.trace.call("drv.post_interrupted_snapshot_cleanup")

    async def init_host(self, host: str) -> None:
        self.trace.call(f"drv.init_host({host})")

    async def close(self) -> None:
        self.trace.call("drv.cleanup_host")

    def register_event_listener(self, listener: EventListener) -> None:
        del listener
        self.trace.call("drv.register_event_listener")

    async def list_instance_uuids(self) -> list[str]:
        self.trace.call("drv.list_instance_uuids")
        return []

    async def list_instances(self) -> list[str]:
        self.trace.call("drv.list_instances")
        return []

    async def get_available_resource(self) -> AvailableResource:
        raise NotImplementedError

    async def capabilities_as_traits(self) -> frozenset[str]:
        raise NotImplementedError

    async def keep_filtering_rules(self, notify: Callable[[FilterChange], None]) -> None:
        del notify

    async def watch_needs(self, needs: Collection[Need], notify: Callable[[Need], None]) -> None:
        del needs, notify

    def watches(self, need: Need) -> bool:
        del need
        return False

    async def filter_defer_apply_on(self) -> None:
        self.trace.call("drv.filter_defer_apply_on")

    async def filter_defer_apply_off(self) -> None:
        self.trace.call("drv.filter_defer_apply_off")

    async def check_instance_shared_storage_local(self, guest: Guest) -> SharedStorageProbe | None:
        del guest
        self.trace.call("drv.check_instance_shared_storage_local")
        return None

    async def check_instance_shared_storage_cleanup(self, probe: SharedStorageProbe) -> None:
        del probe
        self.trace.call("drv.check_instance_shared_storage_cleanup")
