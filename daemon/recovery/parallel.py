"""Many instances at once: at most so many, each for itself, each with an outcome."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import TypeVar

import anyio
import structlog

from bringup.daemon.decisions.actions import EnsureFilteringRules
from bringup.daemon.decisions.describe import need_words
from bringup.daemon.decisions.execution_order import Turns, turns_of
from bringup.daemon.decisions.from_needs import is_tried_again
from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import Kind, Outcome
from bringup.daemon.decisions.rules import UNTROUBLED, Facts, Step
from bringup.daemon.decisions.run_events import ActionEnded, InstanceBegan, InstanceEnded
from bringup.daemon.decisions.start_order import StartOrder
from bringup.daemon.decisions.table_order import Tables
from bringup.daemon.errors import JournalError
from bringup.daemon.logs import get_logger
from bringup.daemon.recovery.context import Host
from bringup.daemon.recovery.dependencies import NEVER_READY, Dependencies
from bringup.daemon.recovery.gate import PriorityGate
from bringup.daemon.recovery.init_instance import init_instance
from bringup.daemon.recovery.slots import Slot
from bringup.daemon.tasks import background
from bringup.drivers.deadlines import pausable_deadline

log = get_logger()

T = TypeVar("T")

DECIDE = "decide"
LEVELS = {Kind.FAILED: "error", Kind.HELD: "warning", Kind.DEFERRED: "warning"}
"""Level of the line of an instance; info for other outcomes."""
COLLECT = Step("runs", EnsureFilteringRules())
AHEAD = 256
"""Most instances that have left their slots before their outcomes are on disk."""


async def settle(
    host: Host,
    order: StartOrder,
    tables: Tables,
    outcomes: MutableMapping[str, Outcome],
    *,
    known: Mapping[str, Outcome] = MappingProxyType({}),
) -> None:
    """Bring instances through tables, as many at once as there are slots, and collect their outcomes.

    ``known`` are their outcomes before: where nothing has changed, it is not logged again.
    """
    turns, ahead = turns_of(order.queue, order.after), anyio.Semaphore(AHEAD)

    async def work(facts: Facts, slot: Slot) -> None:
        instance = facts.instance
        began = anyio.current_time()
        with structlog.contextvars.bound_contextvars(instance=instance.uuid, name=instance.shown_name):
            dependencies.began(instance.uuid)
            outcome = await _settle_one(host, facts, tables)
            await _record(host, facts, outcome, slot, ahead)
            host.observer(InstanceEnded(outcome))
            outcomes[outcome.uuid] = outcome
            if outcome.uuid in known and outcome.says_the_same(known[outcome.uuid]):
                log.debug("instance.unchanged", outcome=outcome.kind.value)
            else:
                log_outcome(outcome)
            took_s = anyio.current_time() - began
            _follow(host, order, dependencies, facts=facts, outcome=outcome, slot=slot, took_s=took_s)

    async with host.journal.sharing_commits(), background() as bounds:
        dependencies = Dependencies(turns, host.pace.after_at_most, bounds)
        gate = PriorityGate(turns, dependencies, order.priority, host.boots)
        await in_slots(host, turns, work, name="init_instance", opened=gate.opened, left=gate.left)


def _follow(  # noqa: PLR0913 - what an instance has to do with others
    host: Host,
    order: StartOrder,
    dependencies: Dependencies,
    *,
    facts: Facts,
    outcome: Outcome,
    slot: Slot,
    took_s: float,
) -> None:
    """Release those that wait for an instance, when its guest is ready if it boots."""
    uuid = outcome.uuid
    waits = uuid not in order.ready_at_start and outcome.kind not in NEVER_READY

    def freed(why: str | None) -> None:
        if why is None:
            dependencies.ready(uuid)
        else:
            dependencies.give_up(uuid, why)

    is_booting = host.boots is not None and host.boots.settled(
        facts,
        outcome,
        slot,
        took_s=took_s,
        wanted=order.ready.get(uuid),
        unawaited=partial(dependencies.unawaited, uuid),
        freed=freed,
    )
    if not (is_booting and waits):
        dependencies.ended(outcome)


async def _open() -> None:
    """Return at once: the gate is open."""


async def in_slots(
    host: Host,
    turns: Turns[T],
    work: Callable[[T, Slot], Awaitable[None]],
    *,
    name: str,
    opened: Callable[[], Awaitable[None]] = _open,
    left: Callable[[T], None] | None = None,
) -> None:
    """Work on all items, each in a slot of the host, begun by their turns; slots may come and go meanwhile.

    ``opened`` returns when the next may be taken; it holds no slot before.  ``left`` is called with one that leaves its
    slot.
    """

    async def work_and_leave(item: T, slot: Slot) -> None:
        try:
            await work(item, slot)
        finally:
            if not slot.is_kept:
                slot.release()

    async with anyio.create_task_group() as group:
        number = 0
        while turns:
            await opened()
            slot = Slot(host.capacity.slots)
            await slot.acquire()
            item = turns.take(host.capacity.slots.total_tokens)
            slot.on_release(partial(left or turns.left, item))
            group.start_soon(work_and_leave, item, slot, name=f"{name}-{number}")
            number += 1


async def _settle_one(host: Host, facts: Facts, tables: Tables) -> Outcome:
    instance = facts.instance
    host.observer(InstanceBegan(instance.uuid, instance.shown_name, instance.project_id))
    return await init_instance(
        facts,
        executor=host.executor,
        observer=host.observer,
        deadline_s=host.limits.instance_deadline,
        tables=tables,
        journal=host.journal,
    )


async def _record(host: Host, facts: Facts, outcome: Outcome, slot: Slot, ahead: anyio.Semaphore) -> None:
    """Write the outcome of an instance to the journal, before it comes out.

    The journal says itself that it cannot be written; what it does not have is decided again after a crash.  A guest
    that would be started then, had its user stopped it meanwhile, must not lose its outcome: that is waited for.  One
    that needed nothing waits without its slot, so that many share a commit however few slots there are.
    """
    is_untroubled, journal = outcome.kind in UNTROUBLED, host.journal
    with suppress(JournalError):
        if is_untroubled and facts.may_be_brought_back and journal.may_share(outcome.uuid):
            async with ahead:
                slot.release()
                await journal.settled_with_others(outcome)
        else:
            await journal.settled(outcome, at_once=facts.may_be_brought_back or not is_untroubled)


async def collect_again(host: Host, outcomes: Sequence[Outcome]) -> None:
    """Collect the firewall rules of instances that were settled before a run was cut short: nobody has applied them."""

    async def work(instance: Instance, _slot: Slot) -> None:
        failure: Exception | None = None
        try:
            with anyio.fail_after(host.limits.instance_deadline) as scope, pausable_deadline(scope):
                await host.driver.ensure_filtering_rules_for_instance(instance)
        except Exception as error:  # noqa: BLE001 - one instance cannot hurt another
            failure = error
            log.warning("instance.rules_not_collected", instance=instance.uuid, error=repr(error))
        # Observers see that the run continues.
        host.observer(ActionEnded(instance.uuid, COLLECT, failure))

    ran = (outcome.instance for outcome in outcomes if "runs" in outcome.because and outcome.instance is not None)
    await in_slots(host, Turns(ran), work, name="collect")


def log_outcome(outcome: Outcome) -> None:
    """Write the canonical line of an instance."""
    facts: dict[str, object] = {
        "did": outcome.did.value,
        "because": list(outcome.because),
        "took_s": round(outcome.took_s, 3),
    }
    if outcome.slowest is not None:
        facts["slowest"] = outcome.slowest[0]
        facts["slowest_s"] = round(outcome.slowest[1], 3)
    if outcome.deleted:
        facts["deleted"] = True
    if outcome.kind is Kind.DEFERRED:
        facts["needs"] = [need_words(need) for need in outcome.needs]
        facts["tried_again"] = is_tried_again(outcome.needs)
    for warning in outcome.warnings:
        if warning.action == DECIDE:
            log.warning("instance.warning", action=DECIDE, error=warning.error, message=warning.message)
            continue
        log.warning("instance.action_failed", action=warning.action, error=warning.error, message=warning.message)
    if outcome.problem is not None:
        facts |= {
            "action": outcome.problem.action,
            "error": outcome.problem.error,
            "message": outcome.problem.message,
        }
    # One of them: structlog builds a logger for each that is named.
    write = getattr(log, LEVELS.get(outcome.kind, "info"))
    write(f"instance.{outcome.kind.value}", **facts)
