"""Guests that were started and boot: each keeps its slot until it is ready, and as many boot as the host bears.

Nothing of an instance depends on it: the outcome is out, in the journal and reported before.  A guest that never shows
that it is ready keeps its slot for ``pace.hold``, or until it has been quiet for a while, and is not touched.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import TaskGroup, TaskStatus

from bringup.daemon.decisions.actions import (
    Delete,
    DestroyEvacuated,
    DestroyGuest,
    Fence,
    FenceForeign,
    Reboot,
    ResumeStateOnHostBoot,
    RevertMigration,
    Start,
    Stop,
)
from bringup.daemon.decisions.describe_readiness import slowest_of, times_json
from bringup.daemon.decisions.outcomes import Outcome
from bringup.daemon.decisions.pace import PaceController, Sighting
from bringup.daemon.decisions.pace_keys import Ready
from bringup.daemon.decisions.policies import PacePolicy
from bringup.daemon.decisions.readiness import QuietWatch, Readiness, ReadyBy, boots, shows, time_to_ready
from bringup.daemon.decisions.rules import Facts
from bringup.daemon.decisions.run_events import (
    ActionBegan,
    ActionEnded,
    InstanceBegan,
    InstanceBoots,
    InstanceEnded,
    InstanceReady,
    Observer,
    PaceSeen,
    RunEvent,
)
from bringup.daemon.errors import JournalError
from bringup.daemon.logs import get_logger
from bringup.daemon.recovery.slots import Slot
from bringup.daemon.storage.journal import Journal
from bringup.daemon.tasks import first_of
from bringup.drivers.base import BootCounters, BootSigns, Driver, GuestSign, MemoryPressure, RebootType
from bringup.drivers.capacity import Capacity
from bringup.drivers.needs import NeedNotMet

log = get_logger()

STARTS = frozenset(action.verb for action in (Reboot, ResumeStateOnHostBoot, RevertMigration, Start))
STOPS = (Delete, DestroyEvacuated, DestroyGuest, Fence, FenceForeign, Stop)
"""While these are done to an instance, it slows no boot down."""
LOOK_S = 10.0
"""How long one read of the guests may take."""
SLOW_S = 10.0
"""What is worked on, or quiet, for longer waits for something else than this host, and leaves its slot to others."""
BLIND_S = 30.0
"""Guests that boot and cannot be read for so long keep nobody waiting: their slots are free when they are started."""
GONE_S = 5.0
"""A guest that is not running so long after its start does not boot."""


@dataclass(slots=True)
class BootingGuest:
    """A guest that was started."""

    outcome: Outcome
    slot: Slot
    wanted: Ready | None
    """What shows that it is ready, where that is set."""
    freed: Callable[[str | None], None]
    """Called once, when those that wait for it need not any more; with the reason where it is not ready."""
    unawaited: Callable[[], Awaitable[None]]
    """Returns when nobody waits for it."""
    began_at: float
    """When its instance got its slot."""
    started_at: float
    by: ReadyBy | None = None
    has_agent: bool = False
    counters: BootCounters = field(default_factory=BootCounters)
    ended: anyio.Event = field(default_factory=anyio.Event)
    """It is ready, does not run any more, or is not seen."""
    is_unseen: bool = False
    """What it shows could not be read: nothing is known of it."""


class Boots:
    """Guests that boot."""

    def __init__(  # noqa: PLR0913 - it has to do with all of a host
        self,
        driver: Driver,
        pace: PacePolicy,
        capacity: Capacity,
        controller: PaceController,
        *,
        observer: Observer,
        journal: Journal,
        read_pressure: Callable[[], MemoryPressure | None],
        slow_s: float = SLOW_S,
        blind_s: float = BLIND_S,
    ) -> None:
        """Store what they are followed with."""
        self._driver = driver
        self._pace = pace
        self._capacity = capacity
        self._controller = controller
        self._observer = observer
        self._journal = journal
        self._read_pressure = read_pressure
        self._slow_s = slow_s
        self._blind_s = blind_s
        self._seen_at = 0.0
        """When guests that boot were last read, or the first of them began to."""
        self._began_at = anyio.current_time()
        self._boots: dict[str, BootingGuest] = {}
        self._started: set[str] = set()
        self._found: dict[str, Readiness] = {}
        self._names: dict[str, str] = {}
        self._working: dict[str, float] = {}
        """When each instance that is worked on got its slot."""
        self._stopping: set[str] = set()
        self._quiet = QuietWatch()
        self._some = anyio.Event()
        self._group: TaskGroup | None = None
        self._is_measured = True
        self._is_blind = False
        """This hypervisor shows nothing of boots."""
        self._changed = anyio.Event()
        capacity.follow(self._resize)
        self._resize(capacity.number)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Follow them until cancelled."""
        self._driver.register_sign_listener(self._heard)
        try:
            async with anyio.create_task_group() as self._group:
                task_status.started()
                while True:
                    await self._some.wait()
                    try:
                        await self._look()
                    except Exception:
                        # Slots are kept no longer than without it: nothing else depends on what is seen.
                        log.exception("pace.look_failed")
                    await anyio.sleep(self._controller.every_s)
        finally:
            # A start that was under way when the process was asked to end may be over after this.
            self._group = None

    def observe(self, event: RunEvent) -> None:
        """Count instances that are stopped, or take long: they slow no boot down, and leave their slots to others."""
        match event:
            case InstanceBegan(uuid):
                self._working[uuid] = anyio.current_time()
                self._some.set()
                return
            case ActionBegan(uuid, step) if isinstance(step.action, STOPS) or _waits_for_its_guest(step.action):
                self._stopping.add(uuid)
            case ActionEnded(uuid) if uuid in self._stopping:
                self._stopping.discard(uuid)
            case InstanceEnded(outcome):
                self.left(outcome.uuid)
                return
            case _:
                return
        self._restrict()

    @property
    def uncounted(self) -> AbstractSet[str]:
        """UUIDs of instances that hold slots, and slow no boot down."""
        now = anyio.current_time()
        return self._stopping.union(uuid for uuid, since in self._working.items() if now - since > self._slow_s)

    def left(self, uuid: str) -> None:
        """Record that an instance has left its slot, or that it is settled."""
        self._working.pop(uuid, None)
        self._stopping.discard(uuid)
        self.wake()

    def may_start_beside(self) -> bool:
        """Check whether one more may be started beside guests of a higher priority."""
        return not (self._is_measured and self._capacity.is_adaptive) or self._controller.take_spare()

    async def changed(self) -> None:
        """Wait until the answer to that, or what boots, may have changed."""
        await self._changed.wait()

    def wake(self) -> None:
        """Wake those that wait for a change."""
        self._changed.set()
        self._changed = anyio.Event()

    def times(self) -> Mapping[str, Any] | None:
        """Return when the guests that were started were ready, as far as is known by now; None: none is followed."""
        if not self._started:
            return None
        times = time_to_ready(self._found.values(), started=len(self._started))
        return times_json(times, slowest_of(self._found, self._names))

    def settled(  # noqa: PLR0913 - a guest that boots has many sides
        self,
        facts: Facts,
        outcome: Outcome,
        slot: Slot,
        *,
        took_s: float,
        wanted: Ready | None,
        unawaited: Callable[[], Awaitable[None]],
        freed: Callable[[str | None], None],
    ) -> bool:
        """Follow the guest of an instance that was settled, if it boots; False: it does not.

        ``took_s``: how long its instance has had its slot.
        """
        if not boots(facts, outcome, STARTS):
            if not self._boots:
                self._controller.passed()
                self._restrict()
            return False
        if self._is_blind or self._group is None or wanted == "started":
            return False
        # A guest was started: libvirt answers again.
        self._is_measured = True
        now = anyio.current_time()
        boot = BootingGuest(outcome, slot, wanted, freed, unawaited, began_at=now - took_s, started_at=now)
        self._group.start_soon(self._hold, boot, name=f"boots-{outcome.uuid}")
        self._keep(boot)
        return True

    def _keep(self, boot: BootingGuest) -> None:
        uuid, boot.slot.is_kept = boot.outcome.uuid, True
        if not self._boots:
            self._seen_at = anyio.current_time()
            self._controller.began()
            self._restrict()
        self._boots[uuid] = boot
        self._started.add(uuid)
        self._some.set()
        self._observer(InstanceBoots(uuid, boot.outcome.name))

    async def _hold(self, boot: BootingGuest) -> None:
        """Keep the slot of a guest until it is ready, for so long at most."""
        try:
            try:
                await self._wait(boot, self._pace.hold / 2)
                if boot.has_agent:
                    await self._wait(boot, self._pace.hold / 2)
            finally:
                boot.slot.release()
            # Those that wait for it may do so for longer.
            await first_of(boot.ended.wait, boot.unawaited)
        finally:
            if self._boots.get(boot.outcome.uuid) is boot:
                del self._boots[boot.outcome.uuid]
        boot.freed(None if boot.by else "nothing has shown that it is ready")
        try:
            await self._note(boot)
        except Exception:
            # Nothing depends on it, least of all the guests that still wait.
            log.exception("pace.look_failed")

    async def _wait(self, boot: BootingGuest, at_most_s: float) -> None:
        with anyio.move_on_after(max(0.0, at_most_s)):
            await boot.ended.wait()

    async def _note(self, boot: BootingGuest) -> None:
        """Report whether a guest is ready, and how long it took."""
        now = anyio.current_time()
        uuid, counters = boot.outcome.uuid, boot.counters
        readiness = Readiness(
            by=boot.by,
            at_s=now - self._began_at,
            queued_s=boot.began_at - self._began_at,
            start_s=boot.started_at - boot.began_at,
            boot_s=now - boot.started_at,
            cpu_wait_s=counters.delay_s,
            read_s=counters.read_s,
        )
        self._observer(InstanceReady(uuid, readiness))
        if boot.is_unseen:
            return
        log.info(
            "instance.ready" if boot.by else "instance.not_ready",
            instance=uuid,
            name=boot.outcome.name,
            by=boot.by,
            at_s=round(readiness.at_s, 3),
            boot_s=round(readiness.boot_s, 3),
            cost=readiness.cost,
        )
        self._found[uuid], self._names[uuid] = readiness, boot.outcome.name
        with suppress(JournalError):
            await self._journal.ready(uuid, readiness)

    async def _look(self) -> None:
        """Read how the guests boot, and adapt the limit to it."""
        self._restrict()
        if not self._boots:
            if not self._working:
                # What else needs slots meanwhile starts no guest.
                self._capacity.restrict(None)
                self._some = anyio.Event()
            return
        uuids = [*self._boots]
        try:
            with anyio.fail_after(LOOK_S):
                signs = await self._driver.boot_signs(uuids)
        except (NotImplementedError, NeedNotMet) as error:
            self._is_blind = True
            self._stop_measuring(str(error))
            return
        except Exception as error:  # noqa: BLE001 - it is asked again, and slots are kept no longer than without
            log.debug("pace.not_seen", error=repr(error))
            if anyio.current_time() - self._seen_at > self._blind_s:
                self._stop_measuring(repr(error))
            return
        self._adapt(self._read(uuids, signs))

    def _read(self, uuids: Collection[str], signs: Mapping[str, BootSigns]) -> dict[str, BootCounters]:
        """Note what guests show; return the counters of those that boot."""
        now = self._seen_at = anyio.current_time()
        quiet = self._quiet.look(signs, now)
        counters = {}
        for uuid, boot in [*self._boots.items()]:
            found = signs.get(uuid)
            if found is None:
                if uuid in uuids and now - boot.started_at > GONE_S:
                    boot.ended.set()
                continue
            boot.counters, boot.has_agent = found.counters, found.agent is not None
            if not boot.ended.is_set():
                counters[uuid] = found.counters
            if by := shows(found, quiet.get(uuid), boot.wanted):
                self._is_ready(boot, by)
            elif self._quiet.quiet_s(uuid) > self._slow_s:
                # Its agent may be missing; what it waits for slows nobody down.
                boot.slot.release()
        return counters

    def _adapt(self, counters: dict[str, BootCounters]) -> None:
        was = self._controller.limit
        used = int(self._capacity.slots.borrowed_tokens) - len(self.uncounted)
        seen = self._controller.look(counters, booting=len(self._boots), used=used, memory=self._read_pressure())
        if seen.limit != was:
            _log_limit(seen, was, is_used=self._capacity.is_adaptive)
        self._restrict()
        self._observer(PaceSeen(seen))

    def _heard(self, sign: GuestSign) -> None:
        boot = self._boots.get(sign.uuid)
        if boot is not None and sign.kind == "agent_connected" and boot.wanted != "quiet":
            self._is_ready(boot, "agent")

    def _is_ready(self, boot: BootingGuest, by: ReadyBy) -> None:
        if not boot.ended.is_set():
            boot.by = by
            boot.ended.set()

    def _stop_measuring(self, why: str) -> None:
        """Continue without readiness and with all slots: nothing is known of the guests that boot now."""
        self._is_measured = False
        self._capacity.restrict(None)
        self.wake()
        log.info("pace.not_measured", why=why)
        for boot in self._boots.values():
            boot.is_unseen = True
            boot.ended.set()

    def _resize(self, number: int) -> None:
        self._controller.resize(number)
        self._restrict()

    def _restrict(self) -> None:
        if self._is_measured:
            self._capacity.restrict(self._controller.limit + len(self.uncounted))
        self.wake()


def _waits_for_its_guest(action: object) -> bool:
    """Check whether a guest is asked to shut down first, which may take as long as it likes."""
    return isinstance(action, Reboot) and action.reboot_type is RebootType.SOFT


def _log_limit(seen: Sighting, was: int, *, is_used: bool) -> None:
    stretch = None if seen.stretch is None else round(seen.stretch, 2)
    log.info(
        "pace.changed",
        limit=seen.limit,
        was=was,
        stretch=stretch,
        booting=seen.booting,
        memory_is_short=seen.brakes,
        is_used=is_used,
    )
