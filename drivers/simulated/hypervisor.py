"""State and verbs of the simulated host, at once and without faults; the driver adds latency and faults.

No awaits here: each method takes effect as a whole, or raises and has changed nothing.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Final

from bringup.drivers.base import (
    AvailableResource,
    BootCounters,
    BootSigns,
    DriverError,
    EventListener,
    InstanceNotFound,
    LifecycleEvent,
    PowerState,
    SharedStorageProbe,
    SignListener,
    Transition,
    VirtualInterfacePlugError,
    VitalSigns,
)
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedState
from bringup.drivers.simulated.scenario import Scenario, SimulatedGuest, SimulatedNeed
from bringup.drivers.simulated.transitions import ACTIVE, POWER_OFF, Moves


class Firewall:
    """Rules of guests, each applied at once or, while deferred, collected and applied as one transaction."""

    def __init__(self) -> None:
        """Start with no rules, applying at once."""
        self.deferred = False
        self.collected: set[str] = set()
        self.applied: set[str] = set()
        self.transactions = 0

    def add(self, uuid: str) -> None:
        """Apply the rules of a guest, or collect them."""
        if self.deferred:
            self.collected.add(uuid)
            return
        self.applied.add(uuid)
        self.transactions += 1

    def defer(self) -> None:
        """Collect from now on."""
        self.deferred = True

    def apply(self) -> None:
        """Apply what was collected as one transaction, and each rule at once from now on."""
        self.deferred = False
        if self.collected:
            self.applied |= self.collected
            self.collected = set()
            self.transactions += 1


class SimulatedHypervisor:
    """A host: its guests by UUID, the fate of disks, its firewall, the marks on shared storage."""

    def __init__(self, scenario: Scenario) -> None:
        """Create the host of ``scenario``.

        :raises ValueError: two of them have the same UUID.
        """
        self.guests: dict[str, SimulatedGuest] = {guest.uuid: guest for guest in scenario.guests}
        if len(self.guests) < len(scenario.guests):
            raise ValueError("cannot simulate a host with two guests of the same uuid")
        capacity = scenario.capacity
        self.room: Final = capacity.running
        self.resources: Final = AvailableResource(
            vcpus=capacity.vcpus, memory_mb=capacity.memory_mb, local_gb=capacity.local_gb
        )
        self.traits: Final = frozenset(capacity.traits)
        self.active = _active_among(self.guests)
        self.firewall: Final = Firewall()
        self.met: Final[set[tuple[str, str]]] = set()
        """Needs that are met by now, by UUID of the guest and name."""
        self.host_needs: list[Need] = []
        """Needs that guests share; a test changes them."""
        self.boot_signs: Final[dict[str, BootSigns]] = {}
        """What guests show of their boot; a test changes it."""
        self.vital_signs: Final[dict[str, VitalSigns]] = {}
        """What guests show later; a test changes it."""
        self.sign_listeners: Final[list[SignListener]] = []
        self.plugged: Final[set[str]] = set()
        self.disks_kept: Final[set[str]] = set()
        self.disks_destroyed: Final[set[str]] = set()
        self.disks_set_aside: Final[set[str]] = set()
        self.probes: Final[set[SharedStorageProbe]] = set()
        self._probes_left = 0
        self._listeners: list[EventListener] = []

    def listen(self, listener: EventListener) -> None:
        """Notify ``listener`` of each lifecycle event from now on."""
        self._listeners.append(listener)

    def emit(self, event: LifecycleEvent) -> None:
        """Return the listeners of ``event``; nothing else happens."""
        for listener in self._listeners:
            listener(event)

    def signs_of(self, uuids: Collection[str]) -> dict[str, BootSigns]:
        """Return what guests that run show of their boot.

        :raises NotImplementedError: nothing of this host shows anything.
        """
        if not self.boot_signs:
            raise NotImplementedError("this simulated host counts nothing of guests that boot")
        running = [uuid for uuid in uuids if uuid in self.guests and self.guests[uuid].power_state in ACTIVE]
        return {uuid: self.boot_signs.get(uuid, BootSigns(BootCounters())) for uuid in running}

    def restore(self, guests: Mapping[str, SimulatedGuest], disks: Mapping[str, str]) -> None:
        """Restore the saved state of the host."""
        self.guests = dict(guests)
        self.active = _active_among(self.guests)
        self.disks_kept.update(uuid for uuid, fate in disks.items() if fate == "kept")
        self.disks_destroyed.update(uuid for uuid, fate in disks.items() if fate == "destroyed")
        self.disks_set_aside.update(uuid for uuid, fate in disks.items() if fate == "aside")

    def guest(self, uuid: str) -> SimulatedGuest:
        """Return a guest.

        :raises InstanceNotFound: there is none.
        """
        try:
            return self.guests[uuid]
        except KeyError:
            raise InstanceNotFound(f"the simulated host has no guest {uuid}") from None

    def move(self, verb: str, uuid: str, moves: Moves) -> None:
        """Change the power state of a guest as the table says.

        :raises DriverError: the table has no row for its state, or the host has no room for one more.
        """
        guest = self.guest(uuid)
        move = moves.get(guest.power_state)
        if move is None:
            right = ", ".join(state.name.lower() for state in moves)
            raise DriverError(f"cannot {verb} {uuid}: it is {guest.power_state.name.lower()}, must be {right}")
        growth = (move.to in ACTIVE) - (guest.power_state in ACTIVE)
        if growth > 0 and self.room is not None and self.active >= self.room:
            raise DriverError(
                f"cannot {verb} {uuid}: {self.active} guests are running, capacity.running of this host is {self.room}"
            )
        self.active += growth
        self.guests[uuid] = dataclasses.replace(guest, power_state=move.to)
        for transition in move.events:
            self.emit(LifecycleEvent(uuid, transition))

    def stops_itself(self, uuid: str) -> None:
        """Shut a guest down from within."""
        self.move("stop", uuid, POWER_OFF)

    def destroy(self, uuid: str, *, destroy_disks: bool) -> None:
        """Delete a guest, which need not exist, and with ``destroy_disks`` its disks."""
        guest = self.guests.pop(uuid, None)
        if destroy_disks:
            self.disks_kept.discard(uuid)
            self.disks_set_aside.discard(uuid)
            self.disks_destroyed.add(uuid)
        elif uuid not in self.disks_destroyed | self.disks_set_aside:
            self.disks_kept.add(uuid)
        if guest is not None and guest.power_state in ACTIVE:
            self.active -= 1
            self.emit(LifecycleEvent(uuid, Transition.STOPPED))

    def keep_disks(self, uuid: str) -> tuple[str, ...]:
        """Move the disks of a guest aside; a missing guest has none, unless they were moved before."""
        if uuid in self.guests and uuid not in self.disks_destroyed:
            self.disks_set_aside.add(uuid)
        return (f"simulated/{uuid}/kept",) if uuid in self.disks_set_aside else ()

    def delete_kept_disks(self, uuid: str) -> None:
        """Delete disks that were moved aside."""
        if uuid in self.disks_set_aside:
            self.disks_set_aside.remove(uuid)
            self.disks_destroyed.add(uuid)

    def lose_power(self) -> None:
        """Stop all guests without events."""
        for uuid, guest in self.guests.items():
            state = PowerState.SHUTDOWN if guest.power_state in ACTIVE else guest.power_state
            self.guests[uuid] = dataclasses.replace(guest, power_state=state, migrating=False)
        self.active = 0

    def needs(self, uuid: str, since_s: float) -> tuple[Need, ...]:
        """Return the needs of a guest, ``since_s`` seconds after ``init_host``."""
        guest = self.guests.get(uuid)
        if guest is None:
            why = "the hypervisor has no such guest"
            return (Need(kind=NeedKind.DEFINITION, name=uuid, state=NeedState.ABSENT, met_by=MetBy.NOVA, why=why),)
        return tuple(
            Need(
                kind=need.kind,
                name=need.name,
                state=NeedState.MET if _is_there(need, since_s) or (uuid, need.name) in self.met else need.state,
                met_by=need.met_by,
                why=need.why,
            )
            for need in guest.needs
        )

    def revert_resize(self, uuid: str, moves: Moves) -> None:
        """Roll a resize back: the needs that it had moved aside are met."""
        self.met.update((uuid, need.name) for need in self.guest(uuid).needs if need.met_by is MetBy.REVERT)
        self.move("finish_revert_migration", uuid, moves)

    def plug_vifs(self, uuid: str) -> None:
        """Plug the VIFs of a guest, which need not exist."""
        guest = self.guests.get(uuid)
        if guest is not None and guest.vifs_broken:
            raise VirtualInterfacePlugError(f"cannot plug the VIFs of {uuid}: the scenario says vifs_broken")
        self.plugged.add(uuid)

    def filter(self, uuid: str) -> None:
        """Apply the firewall rules of a guest, or collect them."""
        self.firewall.add(self.guest(uuid).uuid)

    def abort_migration(self, uuid: str) -> None:
        """Stop a live migration.

        :raises DriverError: there is none.
        """
        guest = self.guest(uuid)
        if not guest.migrating:
            raise DriverError(f"cannot abort the live migration of {uuid}: it is not migrating")
        self.guests[uuid] = dataclasses.replace(guest, migrating=False)

    def clean_up_snapshot(self, uuid: str) -> None:
        """Remove what a snapshot left, if anything."""
        self.guests[uuid] = dataclasses.replace(self.guest(uuid), snapshot_in_progress=False)

    def leave_probe(self, uuid: str) -> SharedStorageProbe | None:
        """Create a mark on the disks of a guest; None: they are not files of this host."""
        if self.guest(uuid).shared_storage is None:
            return None
        self._probes_left += 1
        probe = SharedStorageProbe(uuid, f"simulated/{uuid}/probe-{self._probes_left}")
        self.probes.add(probe)
        return probe


def _is_there(need: SimulatedNeed, since_s: float) -> bool:
    return need.met_after is not None and since_s >= need.met_after


def _active_among(guests: Mapping[str, SimulatedGuest]) -> int:
    return sum(guest.power_state in ACTIVE for guest in guests.values())
