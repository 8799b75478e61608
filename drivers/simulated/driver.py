"""The driver of the simulated host: Nova's verbs, and what a test, a demo or a benchmark controls.

What a verb does is in :mod:`bringup.drivers.simulated.hypervisor`; this module adds how long it takes and whether it
fails.  The change happens whole, at the end of the latency: a call that is cancelled before has changed nothing.
"""

import dataclasses
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self, TypeVar

import anyio
import anyio.lowlevel

from bringup.drivers.base import (
    AvailableResource,
    BootSigns,
    DriverError,
    EventListener,
    FilterChange,
    Guest,
    GuestInfo,
    GuestSign,
    LifecycleEvent,
    RebootType,
    SharedStorageProbe,
    SignListener,
    Transition,
    VitalSigns,
)
from bringup.drivers.needs import Need, NeedKind, require_needs
from bringup.drivers.simulated import transitions
from bringup.drivers.simulated.calls import Call, Calls
from bringup.drivers.simulated.faults import Faults
from bringup.drivers.simulated.hypervisor import SimulatedHypervisor
from bringup.drivers.simulated.latency import Latency, draw_s
from bringup.drivers.simulated.scenario import Fault, Scenario, SimulatedGuest, SimulatedNeed
from bringup.drivers.simulated.scenario_file import read_scenario
from bringup.drivers.simulated.state_file import StateFile
from bringup.drivers.simulated.verbs import NO_DEFAULT_LATENCY, READS, LatencyKey, Verb

_T = TypeVar("_T")


class SimulatedDriver:
    """A hypervisor in this process: :class:`bringup.drivers.base.Driver` over a scenario, with what a test controls.

    ``hypervisor`` is what the host has now.  With ``record`` each call is kept in ``calls``.  With ``state_path``
    guests, counts and spent faults are saved there after each change, and what is there comes before the scenario's.
    """

    def __init__(self, scenario: Scenario, *, record: bool = False, state_path: Path | None = None) -> None:
        """Create a host from ``scenario``.

        :raises ScenarioError: the file at ``state_path`` cannot be used.
        """
        self.scenario: Final = scenario
        self.hypervisor: Final = SimulatedHypervisor(scenario)
        self._calls: Final = Calls(record=record)
        self._faults: Final = Faults(scenario.faults)
        self._latencies = {guest.uuid: guest.latency for guest in scenario.guests if guest.latency}
        self._busy: dict[str, Verb] = {}
        self.watching: list[tuple[Collection[Need], Callable[[Need], None]]] = []
        """What is watched now, and who is notified."""
        self._host: str | None = None
        self._ready_at: float | None = None
        self._state = None if state_path is None else StateFile(state_path)
        if self._state is not None:
            self._state.load(self.hypervisor, self._calls, self._faults)

    @classmethod
    def from_file(cls, path: Path, *, record: bool = False, state_path: Path | None = None) -> Self:
        """Create a host from a scenario file.

        :raises ScenarioError: the file, or the one at ``state_path``, cannot be used.
        """
        return cls(read_scenario(path), record=record, state_path=state_path)

    @property
    def guests(self) -> Mapping[str, SimulatedGuest]:
        """The guests that the host has now, by UUID."""
        return MappingProxyType(self.hypervisor.guests)

    @property
    def calls(self) -> Sequence[Call]:
        """The calls of this driver so far, if they are recorded."""
        return self._calls.recorded

    def scenario_now(self) -> Scenario:
        """Return the host as it is now as a scenario."""
        return dataclasses.replace(self.scenario, guests=tuple(self.hypervisor.guests.values()))

    def count(self, verb: Verb, uuid: str | None = None) -> int:
        """Return how often a verb was entered, for one guest or (None) for all; with a state file, by all processes."""
        return self._calls.count(verb, uuid)

    def done(self, verb: Verb, uuid: str = "") -> int:
        """Return how often a verb had its effect on a guest, over all processes that shared the state file.

        :raises ValueError: there is no state file.
        """
        if self._state is None:
            raise ValueError("cannot count effects: this simulated host has no state_path")
        return self._state.done(verb, uuid)

    async def entered(self, verb: Verb, uuid: str | None = None, *, times: int = 1) -> None:
        """Wait until a verb has been entered ``times`` times; earlier calls count."""
        await self._calls.entered(verb, uuid, times=times)

    def inject(self, fault: Fault) -> None:
        """Arm ``fault``."""
        self._faults.arm(fault)

    def lift(self, fault: Fault) -> None:
        """Disarm ``fault``; calls that hang in it continue."""
        self._faults.lift(fault)

    def latency_of(self, uuid: str, verb: Verb, nth: int = 1) -> float:
        """Return how many seconds the ``nth`` call (from 1) of ``verb`` for a guest ("" for the host) takes."""
        latency = self._latency(uuid, verb)
        # Most are 0 or fixed: no key is built for them.
        if isinstance(latency, (float, int)):
            return latency
        return draw_s(latency, seed=self.scenario.seed, key=f"{uuid}/{verb}/{nth}")

    def emit(self, event: LifecycleEvent) -> None:
        """Return the listeners of ``event``; the guest stays as it is."""
        self.hypervisor.emit(event)

    def guest_stops_itself(self, uuid: str) -> None:
        """Shut a guest down from within, with its lifecycle event."""
        self.hypervisor.stops_itself(uuid)
        if self._state is not None:
            self._state.save_guest(uuid, self.hypervisor)

    def meet(self, uuid: str, name: str, *, silently: bool = False) -> None:
        """Mark a need of a guest as met from now on; whoever watches it is notified unless it comes ``silently``."""
        self.hypervisor.met.add((uuid, name))
        for needs, notify in () if silently else tuple(self.watching):
            for need in needs:
                if need.name == name:
                    notify(need)

    def lacks(self, uuid: str, *needs: SimulatedNeed) -> None:
        """Replace the needs of a guest."""
        self.hypervisor.guests[uuid] = dataclasses.replace(self.hypervisor.guest(uuid), needs=needs)
        if self._state is not None:
            self._state.save_guest(uuid, self.hypervisor)

    def ready_for_s(self) -> float:
        """Return the seconds since ``init_host``."""
        return 0.0 if self._ready_at is None else time.monotonic() - self._ready_at

    def host_loses_power(self) -> None:
        """Stop the host and all guests, as in a power failure."""
        self.hypervisor.lose_power()
        if self._state is not None:
            for uuid in self.hypervisor.guests:
                self._state.save_guest(uuid, self.hypervisor)

    def register_event_listener(self, listener: EventListener) -> None:
        """Call ``listener``, in the event loop, for each lifecycle event from now on."""
        self.hypervisor.listen(listener)

    def register_sign_listener(self, listener: SignListener) -> None:
        """Call ``listener``, in the event loop, for each other event of a guest from now on."""
        self.hypervisor.sign_listeners.append(listener)

    def sends(self, sign: GuestSign) -> None:
        """Report an event of a guest."""
        for listener in self.hypervisor.sign_listeners:
            listener(sign)

    def shows(self, uuid: str, signs: BootSigns | VitalSigns) -> None:
        """Set what a guest shows from now on; without any that shows something of its boot none is counted."""
        if isinstance(signs, VitalSigns):
            self.hypervisor.vital_signs[uuid] = signs
        else:
            self.hypervisor.boot_signs[uuid] = signs

    async def init_host(self, host: str) -> None:
        """Make the hypervisor ready; may be repeated."""
        await self._perform("init_host", "", partial(self._open, host), host=host)

    async def close(self) -> None:
        """Close the hypervisor; guests are left as they are."""
        await self._perform("close", "", self._close)

    async def list_instance_uuids(self) -> list[str]:
        """Return the UUIDs of the guests, in the order of the scenario."""
        return await self._perform("list_instance_uuids", "", lambda: list(self.hypervisor.guests))

    async def list_instances(self) -> list[str]:
        """Return the names of the guests, in the order of the scenario."""
        return await self._perform(
            "list_instances", "", lambda: [guest.name for guest in self.hypervisor.guests.values()]
        )

    async def get_available_resource(self) -> AvailableResource:
        """Return the resources of the host in the scenario."""
        return await self._perform("get_available_resource", "", lambda: self.hypervisor.resources)

    async def capabilities_as_traits(self) -> frozenset[str]:
        """Return the traits of the host in the scenario."""
        return await self._perform("capabilities_as_traits", "", lambda: self.hypervisor.traits)

    async def boot_signs(self, uuids: Collection[str]) -> Mapping[str, BootSigns]:
        """Return what a test has set, of the guests that run."""
        return await self._perform("boot_signs", "", partial(self.hypervisor.signs_of, uuids), uuids=uuids)

    async def vital_signs(self, uuids: Collection[str]) -> Mapping[str, VitalSigns]:
        """Return what a test has set."""
        found = self.hypervisor.vital_signs
        return await self._perform(
            "vital_signs", "", lambda: {uuid: found[uuid] for uuid in uuids if uuid in found}, uuids=uuids
        )

    async def get_info(self, guest: Guest) -> GuestInfo:
        """Read the state of a guest; allowed while another verb works on it."""
        uuid = guest.uuid
        return await self._perform("get_info", uuid, lambda: GuestInfo(self.hypervisor.guest(uuid).power_state))

    async def needs(self, guest: Guest) -> Sequence[Need]:
        """Return the needs of the guest in the scenario; its definition if there is no such guest."""
        uuid = guest.uuid
        return await self._perform("needs", uuid, lambda: self.hypervisor.needs(uuid, self.ready_for_s()))

    async def _require_needs(self, guest: Guest, moves: transitions.Moves) -> None:
        """Make sure that all that a guest needs is there, if these moves start it."""
        found = self.hypervisor.guests.get(guest.uuid)
        move = None if found is None or self._host is None else moves.get(found.power_state)
        if move is not None and Transition.STARTED in move.events:
            await require_needs(guest.uuid, self.needs(guest))

    async def watch_needs(self, needs: Collection[Need], notify: Callable[[Need], None]) -> None:
        """Call ``notify`` with each of these needs that :meth:`meet` is called for, until cancelled."""
        watched = needs, notify
        self.watching.append(watched)
        try:
            await anyio.sleep_forever()
        finally:
            self.watching.remove(watched)

    def watches(self, need: Need) -> bool:
        """Return whether a need of this kind is reported."""
        return need.kind is not NeedKind.MEMORY

    async def host_needs(self, guests: Sequence[Guest]) -> Sequence[Need]:
        """Return the shared needs that a test has set."""
        return await self._perform("host_needs", "", lambda: tuple(self.hypervisor.host_needs), guests=guests)

    async def plug_vifs(self, guest: Guest) -> None:
        """Plug the VIFs of a guest, which need not exist."""
        await self._perform("plug_vifs", guest.uuid, partial(self.hypervisor.plug_vifs, guest.uuid))

    async def ensure_filtering_rules_for_instance(self, guest: Guest) -> None:
        """Apply the firewall rules of a guest, or collect them."""
        verb: Final = "ensure_filtering_rules_for_instance"
        await self._perform(verb, guest.uuid, partial(self.hypervisor.filter, guest.uuid))

    async def keep_filtering_rules(self, notify: Callable[[FilterChange], None]) -> None:
        """Return at once: no other program changes the rules of a simulated host."""
        await self._perform("keep_filtering_rules", "", lambda: None, notify=notify)

    async def filter_defer_apply_on(self) -> None:
        """Collect firewall rules from now on."""
        await self._perform("filter_defer_apply_on", "", self.hypervisor.firewall.defer)

    async def filter_defer_apply_off(self) -> None:
        """Apply what was collected as one transaction."""
        await self._perform("filter_defer_apply_off", "", self.hypervisor.firewall.apply)

    async def power_on(self, guest: Guest) -> None:
        """Start a guest; a running one stays as it is."""
        await self._require_needs(guest, transitions.POWER_ON)
        move = partial(self.hypervisor.move, "power_on", guest.uuid, transitions.POWER_ON)
        await self._perform("power_on", guest.uuid, move)

    async def power_off(self, guest: Guest, *, timeout_s: float, retry_interval_s: float) -> None:
        """Stop a guest; it takes the latency of the scenario, whatever ``timeout_s`` allows."""
        move = partial(self.hypervisor.move, "power_off", guest.uuid, transitions.POWER_OFF)
        await self._perform("power_off", guest.uuid, move, timeout_s=timeout_s, retry_interval_s=retry_interval_s)

    async def reboot(self, guest: Guest, reboot_type: RebootType) -> None:
        """Restart a guest; a soft reboot needs one that runs."""
        moves = transitions.SOFT_REBOOT if reboot_type is RebootType.SOFT else transitions.HARD_REBOOT
        await self._require_needs(guest, moves)
        move = partial(self.hypervisor.move, f"reboot ({reboot_type.value})", guest.uuid, moves)
        await self._perform("reboot", guest.uuid, move, reboot_type=reboot_type)

    async def unpause(self, guest: Guest) -> None:
        """Resume a paused guest."""
        move = partial(self.hypervisor.move, "unpause", guest.uuid, transitions.UNPAUSE)
        await self._perform("unpause", guest.uuid, move)

    async def resume_state_on_host_boot(self, guest: Guest) -> None:
        """Start a guest that is off; any other stays as it is."""
        verb: Final = "resume_state_on_host_boot"
        await self._require_needs(guest, transitions.RESUME_ON_BOOT)
        move = partial(self.hypervisor.move, verb, guest.uuid, transitions.RESUME_ON_BOOT)
        await self._perform(verb, guest.uuid, move)

    async def destroy(self, guest: Guest, *, destroy_disks: bool) -> None:
        """Delete a guest, with or without its disks; it need not exist."""
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
        """Restore a guest, running or off."""
        moves = transitions.POWER_ON if power_on else transitions.POWER_OFF
        move = partial(self.hypervisor.revert_resize, guest.uuid, moves)
        await self._perform("finish_revert_migration", guest.uuid, move, power_on=power_on)

    async def live_migration_abort(self, guest: Guest) -> None:
        """Stop a live migration."""
        await self._perform("live_migration_abort", guest.uuid, partial(self.hypervisor.abort_migration, guest.uuid))

    async def post_interrupted_snapshot_cleanup(self, guest: Guest) -> None:
        """Remove what a snapshot left, if anything."""
        verb: Final = "post_interrupted_snapshot_cleanup"
        await self._perform(verb, guest.uuid, partial(self.hypervisor.clean_up_snapshot, guest.uuid))

    async def check_instance_shared_storage_local(self, guest: Guest) -> SharedStorageProbe | None:
        """Create a mark on a guest's disks; None: they are not files of this host."""
        verb: Final = "check_instance_shared_storage_local"
        return await self._perform(verb, guest.uuid, partial(self.hypervisor.leave_probe, guest.uuid))

    async def check_instance_shared_storage_cleanup(self, probe: SharedStorageProbe) -> None:
        """Delete the mark."""
        verb: Final = "check_instance_shared_storage_cleanup"
        await self._perform(verb, probe.uuid, partial(self.hypervisor.probes.discard, probe))

    def _open(self, host: str) -> None:
        self._host = host
        self._ready_at = time.monotonic() if self._ready_at is None else self._ready_at

    def _close(self) -> None:
        self._host = None

    async def _perform(self, verb: Verb, uuid: str, effect: Callable[[], _T], **arguments: Any) -> _T:
        if self._host is None and verb not in ("init_host", "close"):
            raise DriverError(f"cannot {verb} {uuid}".rstrip() + ": init_host of the simulated host must come first")
        excludes = bool(uuid) and verb not in READS
        if excludes:
            if uuid in self._busy:
                raise DriverError(f"cannot {verb} {uuid}: it is busy with {self._busy[uuid]}")
            self._busy[uuid] = verb
        try:
            return await self._wait_and_do(verb, uuid, effect, arguments)
        finally:
            if excludes:
                del self._busy[uuid]

    async def _wait_and_do(self, verb: Verb, uuid: str, effect: Callable[[], _T], arguments: Mapping[str, Any]) -> _T:
        nth = self._calls.enter(verb, uuid, arguments)
        fault = self._faults.strike(verb, uuid)
        if self._state is not None:
            self._state.save("entered", verb, uuid, hypervisor=self.hypervisor, faults=self._faults)
        latency_s = self.latency_of(uuid, verb, nth)
        if latency_s:
            await anyio.sleep(latency_s)
        else:
            await anyio.lowlevel.checkpoint()
        if fault is not None and fault.fault.effect == "before":
            await fault.raise_or_hang(f"{verb} {uuid}".rstrip())
        result = effect()
        if self._state is not None:
            self._state.save("done", verb, uuid, hypervisor=self.hypervisor, faults=self._faults)
        if fault is not None and fault.fault.effect == "after":
            await fault.raise_or_hang(f"{verb} {uuid}".rstrip())
        return result

    def _latency(self, uuid: str, verb: Verb) -> Latency:
        keys: tuple[LatencyKey, ...] = (verb,) if verb in NO_DEFAULT_LATENCY else (verb, "default")
        own = self._latencies.get(uuid)
        for latencies in (self.scenario.latency,) if own is None else (own, self.scenario.latency):
            for key in keys:
                if key in latencies:
                    return latencies[key]
        return 0.0
