"""Plan of a host: what a run would do with each instance.  Changes nothing.

The records are loaded as a run loads them.  Of the hypervisor it calls only ``init_host``, the list of guests,
``get_info`` and, for a guest that would be started, ``needs``.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import anyio

from bringup.daemon.decisions.forecast import Course, Forecast, foresee, undisturbed
from bringup.daemon.decisions.from_needs import can_start
from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.pace_keys import Ready
from bringup.daemon.decisions.resume_policy import Boot, Resuming
from bringup.daemon.decisions.rules import Facts
from bringup.daemon.decisions.start_order import StartOrder, start_order
from bringup.daemon.decisions.states import PowerState
from bringup.daemon.recovery.guest_needs import unmet_needs
from bringup.daemon.recovery.guest_power import read_power_state
from bringup.daemon.recovery.init_instance import problem_of
from bringup.daemon.recovery.load_records import load_records, start_driver
from bringup.daemon.recovery.plan_checks import boot_of, guarded, refuse_unknown_guests, without_accepted
from bringup.daemon.service.assembly import owes_elsewhere
from bringup.daemon.settings import Settings
from bringup.daemon.storage.journal import Past
from bringup.daemon.storage.store.base import Store
from bringup.drivers.base import Driver
from bringup.drivers.needs import Need, of_failed_look

LOOK_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """Plan of one instance."""

    facts: Facts
    forecast: Forecast
    """All courses that are possible, as far as is known."""
    has_guest: bool | None = None
    """Whether the hypervisor has the guest; checked for evacuated instances only."""
    look: PowerState | None = None
    """Power state of the guest; None if it was not read."""
    course: Course | None = None
    """The course if the guest stays as it is; None if that is unknown."""
    problem: str | None = None
    """Why the power state of the guest could not be read."""
    priority: int = 0
    """While instances of a higher one are started and boot, it waits where the host has nothing to spare."""
    after: tuple[str, ...] = ()
    """UUIDs of the instances that it waits for."""
    ready: Ready | None = None
    """What shows that its guest is ready, where that is set."""
    ignored: tuple[str, ...] = ()
    """What is meant to order it, and orders nothing, with the reason."""
    needs: tuple[Need, ...] = ()
    """What its start would need and this host does not have."""

    @property
    def is_deferred(self) -> bool:
        """Whether it would be deferred."""
        return self.course is not None and self.course.kind is Kind.DEFERRED

    @property
    def did(self) -> str | None:
        """What would be done to it, as a value of ``Did``; None if that is unknown."""
        return None if self.course is None or self.course.did is None else self.course.did.value

    @property
    def instance(self) -> Instance:
        """Its record."""
        return self.facts.instance


def next_boot(past: Past) -> Past:
    """Return what the journal would tell a run on the next boot, after a short power cut."""
    return replace(
        past,
        run_id="",
        attempt=1,
        settled={},
        in_flight={},
        resumed=frozenset(),
        boot_settled=False,
        held=frozenset(),
        memory_lost=False,
        downtime_s=0.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """Host to plan for, and what is known of it."""

    settings: Settings
    host: str
    """The name of this host."""
    store: Store
    driver: Driver | None
    """None: plan without the hypervisor."""
    past: Past
    """What the journal has of this boot."""
    boot: Boot | None = None
    """This boot; None: as the journal has it."""
    accepted_guests: frozenset[str] = frozenset()
    """UUIDs of guests that an operator accepted without a record here."""
    others: Sequence[Instance] = ()
    """Further instances to show, which may belong to other hosts."""
    power_cut: bool = False
    """Plan as if every guest were off."""

    async def plan(self) -> list[Planned]:
        """Plan all instances, in the order of a run.

        :raises Unavailable: the hypervisor does not list its guests.
        :raises Temporary: the records could not be loaded.
        :raises SettingsError: a run would be refused.
        """
        deadline_s = self.settings.limits.host_deadline
        local = None if self.driver is None else await start_driver(self.driver, self.host, deadline_s=deadline_s)
        records = await load_records(
            self.store,
            self.host,
            local=local,
            resuming=Resuming(self.settings.resume, self.boot or boot_of(self.past)),
            deadline_s=deadline_s,
            past=self.past,
            owes_elsewhere=owes_elsewhere(self.settings),
        )
        if local is not None:
            refuse_unknown_guests(self.host, self.accepted_guests, local, records)
            records = without_accepted(records, self.accepted_guests)
            records = guarded(records, self.settings.guards, self.past, guests=len(local))
        here = {facts.instance.uuid: facts for facts in records.evacuated}
        foreign = list(records.foreign)
        order = start_order(records.own, self.settings.pace, self.past.took_s)
        own = [facts for facts in order.queue if facts.instance.uuid not in here]
        known = {*here, *(facts.instance.uuid for facts in (*foreign, *own))}
        others = [Facts(instance=each, host=self.host) for each in self.others if each.uuid not in known]
        has_guest = None if self.driver is None else False
        planned = [self._without_look(facts, has_guest=has_guest is not None or None) for facts in here.values()]
        planned += [self._without_look(facts, has_guest=has_guest) for facts in (*foreign, *own, *others)]
        planned = [_with_order(each, order) for each in planned]
        if self.driver is not None:
            return await self._with_looks(planned, self.driver)
        return [_with_look(each, PowerState.SHUTDOWN) for each in planned] if self.power_cut else planned

    def _without_look(self, facts: Facts, *, has_guest: bool | None) -> Planned:
        forecast = foresee(facts, has_guest=has_guest)
        return Planned(facts=facts, forecast=forecast, has_guest=has_guest, course=forecast.certain)

    async def _with_looks(self, planned: list[Planned], driver: Driver) -> list[Planned]:
        deadline_s = min(LOOK_DEADLINE_S, self.settings.limits.instance_deadline)
        queue = deque(index for index, each in enumerate(planned) if any(c.first_look for c in each.forecast.courses))

        async def work() -> None:
            while queue:
                index = queue.popleft()
                planned[index] = await _look(planned[index], driver, deadline_s, power_cut=self.power_cut)

        async with anyio.create_task_group() as group:
            for number in range(min(self.settings.limits.concurrency, len(queue))):
                group.start_soon(work, name=f"look-{number}")
        return planned


def _with_order(planned: Planned, order: StartOrder) -> Planned:
    uuid = planned.instance.uuid
    return replace(
        planned,
        priority=order.priority.get(uuid, 0),
        after=tuple(sorted(order.after.get(uuid, ()))),
        ready=order.ready.get(uuid),
        ignored=order.ignored.get(uuid, ()),
    )


async def _look(planned: Planned, driver: Driver, deadline_s: float, *, power_cut: bool) -> Planned:
    try:
        with anyio.fail_after(deadline_s):
            look = await read_power_state(planned.instance, driver)
    except TimeoutError:
        return replace(planned, problem=f"no answer in {deadline_s:g} s")
    except Exception as error:  # noqa: BLE001 - one guest cannot keep the others from being planned
        return replace(planned, problem=problem_of("get_info", error).message)
    found = _with_look(planned, PowerState.SHUTDOWN if power_cut and look is not PowerState.NOSTATE else look)
    return await _with_needs(found, driver, deadline_s)


async def _with_needs(planned: Planned, driver: Driver, deadline_s: float) -> Planned:
    """Check the needs of a guest that would be started."""
    course, needs = planned.course, tuple[Need, ...]()
    if course is None or not any(can_start(step.action, planned.look) for step in course.steps):
        return planned
    with anyio.move_on_after(deadline_s) as scope:
        needs = await unmet_needs(planned.instance, driver)
    if scope.cancelled_caught:
        needs = (of_failed_look(planned.instance.uuid, TimeoutError(f"no answer in {deadline_s:g} s")),)
    return replace(planned, course=course.deferred(), needs=needs) if needs else planned


def _with_look(planned: Planned, look: PowerState) -> Planned:
    if not any(course.first_look for course in planned.forecast.courses):
        return planned
    forecast = foresee(planned.facts, look, has_guest=planned.has_guest)
    return replace(planned, forecast=forecast, look=look, course=undisturbed(forecast, look))
