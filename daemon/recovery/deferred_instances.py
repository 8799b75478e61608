"""Deferred instances, checked again until what their guests need is there: when it arrives, and with growing waits.

No slot is held meanwhile.

Nothing of the control plane is asked but the records of those that wait, and nothing is written while nothing changes.
What has changed is settled again (:mod:`bringup.daemon.recovery.settle_again`).
"""

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import inf

import anyio
import anyio.to_thread

from bringup.daemon.decisions.actions import LookAtGuest
from bringup.daemon.decisions.describe import missing
from bringup.daemon.decisions.execution_order import Turns
from bringup.daemon.decisions.from_needs import is_tried_again
from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import Kind, Outcome
from bringup.daemon.decisions.rules import Step
from bringup.daemon.decisions.run_events import ActionEnded, PhaseBegan
from bringup.daemon.decisions.states import PowerState, TaskState
from bringup.daemon.errors import BringupError, StoreError, chain_of
from bringup.daemon.logs import get_logger
from bringup.daemon.recovery.arrivals import Arrivals, watched
from bringup.daemon.recovery.context import Host, NeedsPolicy
from bringup.daemon.recovery.guest_needs import unmet_needs
from bringup.daemon.recovery.guest_power import read_power_state
from bringup.daemon.recovery.init_host import Brought
from bringup.daemon.recovery.parallel import in_slots
from bringup.daemon.recovery.plan_checks import boot_of
from bringup.daemon.recovery.settle_again import Again, as_left, note, reported, settle_again, superseded
from bringup.daemon.recovery.slots import Slot
from bringup.daemon.storage.journal import Past
from bringup.drivers.needs import Need, NeedKind

log = get_logger()

WAITED_FOR = "waited_for"
ALL_ROUNDS, ALL_EVERY = 5, 8
"""The first rounds are for all that wait; then every eighth one is for what is watched as well."""
SHOWN = 5
"""Names in a log line."""
LOOK = Step(WAITED_FOR, LookAtGuest())


def deferred(brought: Brought) -> dict[str, Outcome]:
    """Return what is deferred, by UUID."""
    return {outcome.uuid: outcome for outcome in brought.result.outcomes if outcome.kind is Kind.DEFERRED}


def tried_again(brought: Brought) -> dict[str, Outcome]:
    """Return what is deferred and may come back without an operator, by UUID."""
    return {uuid: outcome for uuid, outcome in deferred(brought).items() if is_tried_again(outcome.needs)}


def held_back(brought: Brought) -> dict[str, Outcome]:
    """Return what waits for the end of a pause of starts, by UUID."""
    return {uuid: outcome for uuid, outcome in deferred(brought).items() if outcome.is_paused}


def needs_of(waiting: Mapping[str, Outcome]) -> set[Need]:
    """Return what these wait for."""
    return {need for outcome in waiting.values() for need in outcome.needs}


def waiting_for(waiting: Mapping[str, Outcome], needs: Collection[Need]) -> dict[str, Outcome]:
    """Return those that wait for one of these needs."""
    return {uuid: outcome for uuid, outcome in waiting.items() if not set(needs).isdisjoint(outcome.needs)}


def names_of(needs: Collection[Need]) -> set[tuple[NeedKind, str]]:
    """Return what tells needs apart, whatever was found of them."""
    return {(need.kind, need.name) for need in needs}


@dataclass(slots=True)
class Waits:
    """How long until the next look: it doubles, jittered, then stays slow."""

    policy: NeedsPolicy
    began: float = field(default_factory=anyio.current_time)
    rounds: int = 0

    @property
    def is_over(self) -> bool:
        """Check whether the time with growing waits is over."""
        return anyio.current_time() - self.began >= self.policy.wait_s

    @property
    def is_for_all(self) -> bool:
        """Check whether the check is for all; else only for those whose needs are not watched."""
        return self.is_over or self.rounds <= ALL_ROUNDS or self.rounds % ALL_EVERY == 0

    def next_s(self) -> float:
        """Draw the next wait."""
        draw = random.random()  # noqa: S311 - no secret
        if self.is_over:
            return self.policy.slowly_s * (7 + 2 * draw) / 8
        longest_s = min(self.policy.longest_s, self.policy.first_s * 2.0 ** min(self.rounds, 10))
        self.rounds += 1
        return longest_s * (1 + draw) / 2


async def wait_for_needs(brought: Brought) -> Brought:
    """Wait, at most for as long as the policy says, for what may come by itself; give the run as it is then.

    The report has gone out by then: what changes is a revision of it.
    """
    host = brought.host
    waits, due_at = Waits(host.needs), inf
    async with watched(host.driver) as arrivals:
        while not waits.is_over and (waiting := tried_again(brought)):
            if arrivals.follow(needs_of(waiting)):
                # Something else is waited for, which may have come before it was watched.
                waits.rounds, due_at = 0, inf
            now = anyio.current_time()
            due_at = now + waits.next_s() if due_at == inf else due_at
            in_s = max(0.0, min(due_at, waits.began + host.needs.wait_s) - now)
            count = len(waiting)
            text = f"{count} instance{'' if count == 1 else 's'} deferred; next look in {in_s:.0f} s at the latest"
            host.observer(PhaseBegan("needs", text))
            host.needs.on_wait(count, in_s)
            came = await arrivals.wait(in_s)
            if came:
                brought = await check_arrived(brought, arrivals, came)
            if not came or anyio.current_time() >= due_at:
                brought, due_at = await look_again(brought, due_in(waits, tried_again(brought), arrivals)), inf
    host.needs.on_wait(0, 0.0)
    return brought


def due_in(waits: Waits, waiting: Mapping[str, Outcome], arrivals: Arrivals) -> dict[str, Outcome]:
    """Return those that are checked in this round."""
    return {
        uuid: each
        for uuid, each in waiting.items()
        if waits.is_for_all or each.is_paused or not arrivals.reports(each.needs)
    }


async def check_arrived(brought: Brought, arrivals: Arrivals, came: Collection[Need]) -> Brought:
    """Check those that wait for what may be met by now; return the run as it is then."""
    waiting = waiting_for(tried_again(brought), came)
    log.info("needs.arrived", needs=sorted({need.name for need in came})[:SHOWN], waiting=len(waiting))
    after = await look_again(brought, waiting)
    arrivals.checked(came, is_fruitless=after is brought)
    return after


async def look_again(brought: Brought, waiting: Mapping[str, Outcome], *, starts: bool = True) -> Brought:
    """Check what is deferred, settle what has changed and report it; return the run as it is then.

    ``starts``: guests whose needs are met are started; else only those are settled that somebody else has started.
    """
    if not waiting:
        return brought
    began = anyio.current_time()
    host = brought.host
    new: dict[str, Outcome] = {}
    try:
        changed, new = await _changed(host, waiting, starts=starts)
        if changed:
            again = Again(wanted=changed, because=WAITED_FOR, may=as_left(waiting), known=waiting)
            new |= await settle_again(host, brought.past, again)
    except (BringupError, StoreError, TimeoutError) as error:
        log.warning("needs.check_failed", error=chain_of(error))
    return await reported(brought, new, took_s=anyio.current_time() - began)


async def _changed(host: Host, waiting: Mapping[str, Outcome], *, starts: bool) -> tuple[set[str], dict[str, Outcome]]:
    """Find those that can be settled now, and those whose records somebody has changed."""
    with anyio.fail_after(host.limits.host_deadline):
        records = {each.uuid: each for each in await host.executor.store.load_instances_by_uuid(waiting)}
    is_as_left = as_left(waiting)
    moved = {
        uuid: superseded(uuid, WAITED_FOR, records.get(uuid), deleted=uuid not in records)
        for uuid in waiting
        if uuid not in records or not is_as_left(records[uuid])
    }
    await note(host, moved.values())
    changed = set[str]()

    async def work(record: Instance, _slot: Slot) -> None:
        if await _can_be_settled(host, record, waiting[record.uuid], starts=starts):
            changed.add(record.uuid)
        # Observers see that the run continues.
        host.observer(ActionEnded(record.uuid, LOOK))

    left = [record for uuid, record in records.items() if uuid not in moved]
    await in_slots(host, Turns(left), work, name="needs")
    return changed, moved


async def _can_be_settled(host: Host, record: Instance, outcome: Outcome, *, starts: bool) -> bool:
    try:
        with anyio.fail_after(host.limits.instance_deadline):
            is_to_go = record.task_state is TaskState.DELETING
            if not outcome.runs and not is_to_go and await read_power_state(record, host.driver) is PowerState.RUNNING:
                return True
            if outcome.is_paused:
                return not host.pause.is_active
            if not starts or host.pause.is_active or not is_tried_again(outcome.needs):
                return False
            if any(need.kind is NeedKind.CLOCK for need in outcome.needs):
                boot = await anyio.to_thread.run_sync(boot_of, Past(run_id=""), host.alive)
                return not boot.waits_for_clock
            found = await unmet_needs(record, host.driver, host.pause)
    except Exception as error:  # noqa: BLE001 - one guest cannot keep the others from being checked
        log.debug("needs.unknown", instance=record.uuid, error=f"{type(error).__name__}: {error}")
        return False
    if found:
        log.debug("needs.not_met", instance=record.uuid, needs=missing(found))
    # Something else than before is an outcome, too: it is shown, and watched.
    return names_of(found) != names_of(outcome.needs)
