"""Work of the daemon that stays: requests of operators, deferred instances, liveness, firewall rules."""

from contextlib import suppress
from functools import partial
from math import inf
from typing import NoReturn

import anyio
import anyio.to_thread

from bringup.daemon.errors import BringupError, JournalError, StoreError, chain_of
from bringup.daemon.liveness import Vitals
from bringup.daemon.logs import get_logger
from bringup.daemon.recovery.arrivals import watched
from bringup.daemon.recovery.context import Host
from bringup.daemon.recovery.deferred_instances import (
    Waits,
    check_arrived,
    deferred,
    due_in,
    held_back,
    look_again,
    needs_of,
    tried_again,
)
from bringup.daemon.recovery.evacuated_guests import delete_kept_disks_that_are_due
from bringup.daemon.recovery.init_host import Brought
from bringup.daemon.recovery.operator_requests import may_change, release_held, try_again
from bringup.daemon.recovery.settle_again import is_verifying, report_verdicts
from bringup.drivers.base import FilterChange

log = get_logger()

LOOK_EVERY_S = 1.0
"""How often requests of operators are read from the journal."""
JOURNAL_S = 10.0
"""Deadline of one read or write of the journal on a working disk."""
TIDY_EVERY_S = 60.0
"""Precision of a host's downtime, and the delay after which kept disks are deleted."""


async def stand_by(brought: Brought, vitals: Vitals) -> None:
    """Stay until cancelled."""
    async with anyio.create_task_group() as group:
        if may_change(brought) or is_verifying(brought):
            group.start_soon(_handle_requests_and_deferred, brought, vitals, name="attend")
        group.start_soon(_keep_tidy, brought, vitals, name="tidy")
        group.start_soon(keep_filter, brought.host, name="filter")


async def keep_filter(host: Host) -> None:
    """Restore the rules of guests that somebody else removes, and log it."""

    def told(change: FilterChange) -> None:
        if change.restored:
            log.warning("filter.restored", was=change.what)
        else:
            log.error("filter.unknown", error=change.what)
        host.on_filter_change(change)

    try:
        await host.driver.keep_filtering_rules(told)
    except Exception as error:  # noqa: BLE001 - whatever a driver raises: the daemon stays for its other work
        told(FilterChange(what=f"the rules of guests are not watched any more: {chain_of(error)}", restored=False))


async def _keep_tidy(brought: Brought, vitals: Vitals) -> NoReturn:
    while True:
        await tidy(brought, vitals, stays=True)
        await anyio.sleep(TIDY_EVERY_S)


async def tidy(brought: Brought, vitals: Vitals, *, stays: bool) -> None:
    """Record that this host is up; delete kept disks that are due, without a deadline."""
    host = brought.host
    with suppress(JournalError), vitals.expecting("the journal", within_s=JOURNAL_S):
        await host.journal.seen(host.now())
        if host.alive is not None:
            await anyio.to_thread.run_sync(partial(host.alive.write, is_kept=stays))
    await delete_kept_disks_that_are_due(host.journal, host.driver, host.now)


async def wait_out_pause(brought: Brought, vitals: Vitals) -> Brought:
    """Wait for the end of a pause of starts while it keeps guests off, and start them; return the run as it is then.

    The report has gone out; the host is not back before.  Requests of operators are processed meanwhile.  Where libvirt
    or the records are away at the end of the pause, a start is tried for as long as a call about the host may take.
    """
    host, until = brought.host, inf
    while (waiting := held_back(brought)) and anyio.current_time() < until:
        if host.pause.is_active:
            until = inf
            await anyio.sleep(LOOK_EVERY_S)
            brought = await _handle_requests(brought, vitals)
            continue
        until = min(until, anyio.current_time() + host.limits.host_deadline)
        before, brought = brought, await look_again(brought, waiting)
        if brought is before:
            await anyio.sleep(LOOK_EVERY_S)
    return brought


async def _handle_requests_and_deferred(brought: Brought, vitals: Vitals) -> None:
    """Release and retry what operators request; check deferred instances when something arrives, and periodically.

    Verdicts on guests are reported once all are known.
    """
    needs, pause = brought.host.needs, brought.host.pause
    waits = Waits(needs)
    next_check = _plan_next_check(brought, waits)
    async with watched(brought.host.driver) as arrivals:
        while may_change(brought) or is_verifying(brought):
            is_paused = pause.is_active
            is_watched = needs.wait_s and needs.daemon_starts and not is_paused
            if arrivals.follow(needs_of(tried_again(brought)) if is_watched else ()):
                # Something else is waited for, which may have come before it was watched.
                waits = Waits(needs)
                next_check = _plan_next_check(brought, waits)
            came = await arrivals.wait(LOOK_EVERY_S)
            brought = await report_verdicts(brought)
            brought = await _handle_requests(brought, vitals)
            if is_paused and not pause.is_active:
                waits, next_check = Waits(needs), anyio.current_time()
            if came:
                brought = await check_arrived(brought, arrivals, came)
            if next_check is not None and anyio.current_time() >= next_check:
                waiting = due_in(waits, deferred(brought), arrivals)
                brought = await look_again(brought, waiting, starts=needs.daemon_starts)
                next_check = None
            if not deferred(brought):
                needs.on_wait(0, 0.0)
                next_check = None
            elif next_check is None:
                next_check = _plan_next_check(brought, waits)


def _plan_next_check(brought: Brought, waits: Waits) -> float | None:
    """Return when deferred instances are checked again; None: never by itself."""
    waiting, needs = deferred(brought), brought.host.needs
    if not waiting or not (needs.wait_s or held_back(brought)):
        return None
    in_s = waits.next_s()
    needs.on_wait(len(waiting), in_s)
    return anyio.current_time() + in_s


async def _handle_requests(brought: Brought, vitals: Vitals) -> Brought:
    journal = brought.host.journal
    try:
        with vitals.expecting("reading requests of operators", within_s=JOURNAL_S):
            released, retried = await journal.releases(), await journal.retries()
        if released:
            brought = await release_held(brought, released)
        if brought.host.pause.is_active:
            # They have had their turn, which waits for the end of the pause.
            retried -= held_back(brought).keys()
        if retried:
            brought = await try_again(brought, retried)
    except (BringupError, JournalError, StoreError, TimeoutError) as error:
        log.warning("release.delayed", error=chain_of(error))
    return brought
