"""One run: the order in which a host comes back.  Nova's ``init_host``.

Placement, driver, records: any of these failing means that no instance was touched.  After them nothing stops the
other instances, and the last word (firewall rules applied, the report) is said in a ``finally``, shielded, under a
deadline of its own.
"""

import time
from dataclasses import dataclass, field

import anyio

from bringup.daemon.decisions import EVACUATED
from bringup.daemon.errors import Unavailable
from bringup.daemon.host import Host, Start
from bringup.daemon.init_instance import FULL_COURSE, problem_of
from bringup.daemon.loading import Records, guests_of, load_records
from bringup.daemon.logs import get_logger
from bringup.daemon.ordering import in_order
from bringup.daemon.outcomes import Outcome, RunResult
from bringup.daemon.settle import settle

log = get_logger()

SHOWN_STRANGERS = 5
STOPPED = "the run was stopped before every instance was settled"


@dataclass(slots=True)
class _Run:
    """What is known of the run so far."""

    expected: list[str]
    began: float = field(default_factory=time.monotonic)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    complete: bool = False


async def init_host(start: Start) -> RunResult:
    """Bring the host back.

    :raises BringupError: it could not be begun, and no instance was touched; or, after the report, the collected
        firewall rules could not be applied.
    """
    start.observer.phase_began("placement")
    await start.pass_placement()
    start.observer.phase_began("driver")
    host = await start.open_host()
    local = await guests_of(host.driver, host.name, deadline_s=host.limits.host_deadline_s, on_event=host.on_event)
    host.observer.phase_began("records")
    records = await load_records(
        host.executor.store,
        host.name,
        local=local,
        resume_guests=host.resume_guests,
        deadline_s=host.limits.host_deadline_s,
    )
    _name_guests_without_record(local, records)
    if host.defer_iptables_apply:
        await _defer_firewall_rules(host)
    run = _Run(records.uuids())
    host.observer.work_found(len(run.expected))
    try:
        host.observer.phase_began("evacuated")
        await settle(host, records.evacuated, (EVACUATED,), run.outcomes)
        host.observer.phase_began("instances")
        rest = [facts for facts in records.own if facts.instance.uuid not in run.outcomes]
        await settle(host, in_order(rest), FULL_COURSE, run.outcomes)
        run.complete = True
    finally:
        result = await _last_word(host, run)
        host.observer.run_ended()
    if result.error is not None:
        raise Unavailable(result.error)
    return result


def _name_guests_without_record(local: frozenset[str], records: Records) -> None:
    """Say which guests nobody has asked to be brought back: a wrong host name or a wrong store shows here first."""
    known = {
        name for facts in (*records.own, *records.evacuated) for name in (facts.instance.uuid, facts.instance.name)
    }
    strangers = sorted(local - known)
    if strangers:
        log.warning("host.guests_without_record", count=len(strangers), first=strangers[:SHOWN_STRANGERS])


async def _defer_firewall_rules(host: Host) -> None:
    try:
        with anyio.fail_after(host.limits.host_deadline_s):
            await host.driver.filter_defer_apply_on()
    except Exception as error:
        raise Unavailable(f"cannot collect the firewall rules of {host.name}; no instance was touched") from error


async def _last_word(host: Host, run: _Run) -> RunResult:
    """Apply the firewall rules and report, whatever happened before; all of it under the deadline of the last word."""
    began = time.monotonic()
    host.observer.phase_began("report")
    error = None if run.complete else STOPPED
    if host.defer_iptables_apply:
        error = await _apply_firewall_rules(host) or error
    result = RunResult(
        run_id=host.run_id,
        boot_id=host.boot_id,
        host=host.name,
        outcomes=tuple(run.outcomes.values()),
        unfinished=tuple(uuid for uuid in run.expected if uuid not in run.outcomes),
        took_s=time.monotonic() - run.began,
        error=error,
    )
    left_s = host.limits.last_word_deadline_s - (time.monotonic() - began)
    with anyio.move_on_after(left_s, shield=True) as scope:
        try:
            await host.report(result)
        except Exception:
            # The guests run: a report that failed must not end the daemon.
            log.exception("report.failed", run_id=host.run_id)
    if scope.cancelled_caught:
        log.error("report.deadline_exceeded", run_id=host.run_id, deadline_s=host.limits.last_word_deadline_s)
    return result


async def _apply_firewall_rules(host: Host) -> str | None:
    """Apply what was collected; give what went wrong, because the report must go out all the same."""
    problem: Exception | None = None
    # Half of the last word's time: the other half is the report's.
    deadline_s = host.limits.last_word_deadline_s / 2
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
