"""One run: the order in which a host comes back.  Nova's ``init_host``.

Placement, driver, records, what the guests need together: any of these failing means that no instance was touched.
After them nothing stops the other instances, and the final steps (firewall rules applied, the report) run in a
``finally`` block, shielded, under a deadline of its own.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import anyio
import anyio.to_thread

from bringup.daemon.decisions.outcomes import Kind, Outcome, RunResult
from bringup.daemon.decisions.resume_policy import Boot
from bringup.daemon.decisions.run_events import InstanceEnded, PhaseBegan, RunBegan, RunEnded, WorkFound
from bringup.daemon.decisions.start_order import StartOrder, start_order
from bringup.daemon.decisions.states import PowerState
from bringup.daemon.decisions.table_order import EVACUATED_TABLES, FOREIGN_TABLES, OWN_TABLES
from bringup.daemon.errors import JournalError, StoreError, Temporary, Unavailable, chain_of
from bringup.daemon.logs import get_logger
from bringup.daemon.openstack.resource_provider import HostProvider, KnownInstances
from bringup.daemon.recovery.context import Host, Startup
from bringup.daemon.recovery.continue_run import all_uuids, settled_before
from bringup.daemon.recovery.host_gates import concerned, pass_host_gates
from bringup.daemon.recovery.init_instance import problem_of
from bringup.daemon.recovery.load_records import HostRecords, load_records, start_driver
from bringup.daemon.recovery.parallel import collect_again, settle
from bringup.daemon.recovery.plan_checks import (
    SHOWN,
    boot_of,
    guarded,
    log_unknown_guests,
    refuse_unknown_guests,
    without_accepted,
)
from bringup.daemon.recovery.restore_records import restore_records
from bringup.daemon.storage.journal import NewRun, Past

log = get_logger()

CLOCK_LOOK_S = 1.0
"""How often it is looked whether the clock is set."""
STOPPED = "the run was stopped before every instance was settled"


@dataclass(slots=True)
class _Run:
    """What is known of the run so far."""

    run_id: str
    past: Past
    began: float = field(default_factory=time.monotonic)
    expected: list[str] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Brought:
    """A host that is back."""

    host: Host
    past: Past
    """What the journal knew when the run began."""
    result: RunResult


async def init_host(start: Startup) -> Brought:
    """Bring the host back, or continue a run of this boot that was cut short.

    :raises BringupError: it could not be begun, and no instance was touched; or, after the report, the collected
        firewall rules could not be applied.
    """
    start.observer(PhaseBegan("placement"))
    placed = await start.pass_placement()
    start.observer(PhaseBegan("driver"))
    host = await start.open_host()
    local = await start_driver(host.driver, host.name, deadline_s=host.limits.host_deadline, on_event=host.on_event)
    if placed is not None:
        await placed.update(host.driver)
    host.observer(PhaseBegan("records"))
    past = await _begin_run(host)
    host.observer(RunBegan(past.run_id, past.attempt))
    run = _Run(past.run_id, past)
    records = await _plan(host, local, run)
    await pass_host_gates(host, concerned(records, frozenset(run.outcomes)))
    if host.defer_iptables_apply:
        await _defer_firewall_rules(host)
        await collect_again(host, list(run.outcomes.values()))
    host.observer(WorkFound(len(run.expected)))
    for outcome in run.outcomes.values():
        host.observer(InstanceEnded(outcome))
    try:
        host.observer(PhaseBegan("evacuated"))
        evacuated = [facts for facts in records.evacuated if facts.instance.uuid not in run.outcomes]
        await settle(host, StartOrder(tuple(evacuated)), EVACUATED_TABLES, run.outcomes)
        foreign = [facts for facts in records.foreign if facts.instance.uuid not in run.outcomes]
        await settle(host, StartOrder(tuple(foreign)), FOREIGN_TABLES, run.outcomes)
        host.observer(PhaseBegan("instances"))
        await settle(host, _order(host, records, run), OWN_TABLES, run.outcomes)
        run.complete = True
        if placed is not None:
            host.observer(PhaseBegan("allocations"))
            await _check_allocations(host, placed, records, run.outcomes)
    finally:
        result = await _final_steps(host, run)
        host.observer(RunEnded())
    if result.error is not None:
        raise Unavailable(result.error)
    return Brought(host, past, result)


async def _begin_run(host: Host) -> Past:
    """Read from the journal what was before; where it cannot be read, this boot's past is unknown."""
    new = NewRun(run_id=host.run_id, boot_id=host.boot_id, host=host.name, began_at=host.now())
    try:
        past = await host.journal.begin_run(new)
    except JournalError as error:
        log.error("run.history_unavailable", error=chain_of(error))  # noqa: TRY400 - a sentence, no traceback
        past = Past(run_id=host.run_id, memory_lost=True)
    await host.pause.read()
    if past.retried:
        # They are decided again whatever their outcome was, and have not had their turn.
        settled = {uuid: each for uuid, each in past.settled.items() if uuid not in past.retried}
        past = replace(past, settled=settled, held=past.held | past.retried)
    log.info(
        "run.started" if past.attempt == 1 else "run.continued",
        run_id=past.run_id,
        attempt=past.attempt,
        settled=len(past.settled),
        in_flight=len(past.in_flight),
        downtime_s=past.downtime_s,
    )
    return past


async def _plan(host: Host, local: frozenset[str], run: _Run) -> HostRecords:
    """Load the records, check all of them together, and find out what is settled already.

    :raises SettingsError: these are another host's guests or records.
    :raises Temporary: the records could not be loaded.
    """
    past = run.past
    boot = await _boot(host, past)
    await _restore_failed(host, past)
    records = await load_records(
        host.executor.store,
        host.name,
        local=local,
        resuming=replace(host.resuming, boot=boot),
        deadline_s=host.limits.host_deadline,
        past=past,
        owes_elsewhere=host.owes_elsewhere,
    )
    refuse_unknown_guests(host.name, host.accepted_guests, local, records)
    log_unknown_guests(host.accepted_guests, local, records)
    records = guarded(without_accepted(records, host.accepted_guests), host.guards, past, guests=len(local))
    run.outcomes |= await settled_before(past, records, host.executor.store)
    for uuid in run.outcomes.keys() - past.settled.keys():
        with suppress(JournalError):
            await host.journal.settled(run.outcomes[uuid])
    run.expected = all_uuids(records, run.outcomes)
    return records


def _order(host: Host, records: HostRecords, run: _Run) -> StartOrder:
    """Order what is not settled yet; log what orders nothing."""
    order = start_order(records.own, host.pace, run.past.took_s)
    if order.ignored:
        first = dict(sorted(order.ignored.items())[:SHOWN])
        log.warning("order.ignored", count=len(order.ignored), first=first, see="bringup plan")
    return order.only({facts.instance.uuid for facts in records.own} - run.outcomes.keys())


async def _restore_failed(host: Host, past: Past) -> None:
    """Restore the failed records that an operator has requested to be tried again."""
    try:
        with anyio.fail_after(host.limits.host_deadline):
            await restore_records(host, past.retried)
    except (JournalError, StoreError, TimeoutError) as error:
        raise Temporary("cannot restore the records that are to be tried again; no instance was touched") from error


async def _boot(host: Host, past: Past) -> Boot:
    """Return what is known of this boot; wait a while for a clock that is not set yet, where the downtime matters."""
    policy = host.resuming.policy
    boot = await anyio.to_thread.run_sync(boot_of, past, host.alive)
    until = time.monotonic() + (policy.wait_for_clock if policy.max_downtime else 0.0)
    while boot.waits_for_clock and (left_s := until - time.monotonic()) > 0:
        host.observer(PhaseBegan("records", f"no time service has set the clock yet; {left_s:.0f} s at most"))
        await anyio.sleep(min(CLOCK_LOOK_S, left_s))
        boot = await anyio.to_thread.run_sync(boot_of, past, host.alive)
    log.info(
        "boot.detected",
        downtime_s=boot.downtime_s,
        at_most_s=boot.at_most_s,
        waits_for_clock=boot.waits_for_clock,
    )
    if host.alive is not None:
        await anyio.to_thread.run_sync(partial(host.alive.write, is_kept=False))
    return boot


async def _defer_firewall_rules(host: Host) -> None:
    try:
        with anyio.fail_after(host.limits.host_deadline):
            await host.driver.filter_defer_apply_on()
    except Exception as error:
        raise Unavailable(f"cannot collect the firewall rules of {host.name}; no instance was touched") from error


async def _check_allocations(
    host: Host, placed: HostProvider, records: HostRecords, outcomes: Mapping[str, Outcome]
) -> None:
    """Check which consumers have allocations of this host in Placement without being its instances."""
    deleted = frozenset(uuid for uuid, outcome in outcomes.items() if outcome.deleted)
    undone = {uuid for uuid, outcome in outcomes.items() if outcome.kind not in (Kind.INITIALIZED, Kind.SKIPPED)}
    known = KnownInstances(
        own=frozenset(facts.instance.uuid for facts in records.own) - deleted,
        still_here=frozenset(facts.instance.uuid for facts in records.evacuated) & undone,
        deleted=deleted,
    )
    store, deadline_s = host.executor.store, host.limits.host_deadline
    await placed.check_allocations(host.name, known, store, deadline_s=deadline_s)


async def _final_steps(host: Host, run: _Run) -> RunResult:
    """Apply the firewall rules and report, whatever happened before, within the deadline of the shutdown report."""
    began = time.monotonic()
    host.observer(PhaseBegan("report"))
    error = None if run.complete else STOPPED
    if host.defer_iptables_apply:
        error = await _apply_firewall_rules(host) or error
    result = RunResult(
        run_id=run.run_id,
        boot_id=host.boot_id,
        host=host.name,
        outcomes=tuple(run.outcomes.values()),
        unfinished=tuple(uuid for uuid in run.expected if uuid not in run.outcomes),
        took_s=time.monotonic() - run.began,
        error=error,
        ready=None if host.boots is None else host.boots.times(),
    )
    left_s = host.limits.shutdown_report_deadline - (time.monotonic() - began)
    with anyio.move_on_after(left_s, shield=True) as scope:
        delivery = None
        try:
            delivery = await host.report(result)
        except Exception:
            # The guests run: a report that failed must not end the daemon.
            log.exception("report.failed", run_id=run.run_id)
        # The journal says itself that it cannot be written: the next start continues this run.
        with suppress(JournalError):
            await host.journal.end_run(result, delivery=delivery)
    if scope.cancelled_caught:
        log.error("report.deadline_exceeded", run_id=run.run_id, deadline_s=host.limits.shutdown_report_deadline)
    return result


async def _apply_firewall_rules(host: Host) -> str | None:
    """Apply what was collected; give what went wrong, because the report must go out all the same."""
    problem: Exception | None = None
    # Half of the time of the shutdown report: the other half is for the report itself.
    deadline_s = host.limits.shutdown_report_deadline / 2
    with anyio.move_on_after(deadline_s, shield=True) as scope:
        try:
            await host.driver.filter_defer_apply_off()
        except Exception as error:  # noqa: BLE001 - said after the report
            problem = error
    if scope.cancelled_caught:
        problem = TimeoutError(f"no answer in {deadline_s:g} s")
    if problem is None:
        return None
    text = f"cannot apply the collected firewall rules: {problem_of('filter_defer_apply_off', problem).message}"
    log.error("host.firewall_rules_not_applied", error=text)
    return text


def log_not_resumed(result: RunResult, resume: str) -> None:
    """Log which guests ran before the boot and stay off, where ``resume`` (``resume.guests``) brings none back."""
    off = [outcome.uuid for outcome in result.outcomes if _stays_off(outcome)] if resume == "never" else []
    if off:
        log.warning("run.not_resumed", count=len(off), first=off[:SHOWN], why='resume.guests = "never"')


def _stays_off(outcome: Outcome) -> bool:
    record = outcome.instance
    stays_off = outcome.because[-1:] == ("stays_off",)
    return stays_off and record is not None and record.power_state is PowerState.RUNNING
