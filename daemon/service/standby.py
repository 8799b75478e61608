"""What the daemon does once the host is back: takes an operator's word, waits for needs, says that it lives."""

from contextlib import suppress
from functools import partial
from typing import NoReturn

import anyio
import anyio.to_thread

from bringup.daemon.errors import BringupError, JournalError, StoreError, chain_of
from bringup.daemon.liveness import Vitals
from bringup.daemon.logs import get_logger
from bringup.daemon.recovery.context import Host
from bringup.daemon.recovery.deferred_instances import Waits, deferred, look_again
from bringup.daemon.recovery.evacuated_guests import delete_kept_disks_that_are_due
from bringup.daemon.recovery.init_host import Brought
from bringup.daemon.recovery.operator_requests import let_go_on, may_change, try_again
from bringup.drivers.base import FilterChange

log = get_logger()

LOOK_EVERY_S = 1.0
"""How soon an operator's word is noticed."""
JOURNAL_S = 10.0
"""How long one read or write of the journal takes at most where the disk is well."""
TIDY_EVERY_S = 60.0
"""How exact the time is that a host was away for, and how late disks that were set aside are deleted."""


async def stand_by(brought: Brought, vitals: Vitals) -> None:
    """Stay until cancelled."""
    async with anyio.create_task_group() as group:
        if may_change(brought):
            group.start_soon(_attend, brought, vitals, name="attend")
        group.start_soon(_keep_tidy, brought, vitals, name="tidy")
        group.start_soon(keep_filter, brought.host, name="filter")


async def keep_filter(host: Host) -> None:
    """Have the rules of guests put back that somebody else takes away, and say so."""

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
    """Write that this host lives; delete the disks whose time has come, which may take as long as it wants."""
    host = brought.host
    with suppress(JournalError), vitals.expecting("the journal", within_s=JOURNAL_S):
        await host.journal.seen(host.now())
        if host.alive is not None:
            await anyio.to_thread.run_sync(partial(host.alive.write, is_kept=stays))
    await delete_kept_disks_that_are_due(host.journal, host.driver, host.now)


async def _attend(brought: Brought, vitals: Vitals) -> None:
    """Let go on what an operator releases, try again what he names and what may have come by itself."""
    needs = brought.host.needs
    waits = Waits(needs)
    next_look = _plan_next_look(brought, waits)
    while may_change(brought):
        await anyio.sleep(LOOK_EVERY_S)
        brought = await _take_words(brought, vitals)
        if next_look is not None and anyio.current_time() >= next_look:
            brought = await look_again(brought, deferred(brought), starts=needs.daemon_starts)
            next_look = None
        if not deferred(brought):
            needs.on_wait(0, 0.0)
            next_look = None
        elif next_look is None:
            next_look = _plan_next_look(brought, waits)


def _plan_next_look(brought: Brought, waits: Waits) -> float | None:
    """Draw when what is deferred is looked at again; None: never by itself."""
    waiting, needs = deferred(brought), brought.host.needs
    if not waiting or not needs.wait_s:
        return None
    in_s = waits.next_s()
    needs.on_wait(len(waiting), in_s)
    return anyio.current_time() + in_s


async def _take_words(brought: Brought, vitals: Vitals) -> Brought:
    journal = brought.host.journal
    try:
        with vitals.expecting("the look for an operator's word", within_s=JOURNAL_S):
            released, retried = await journal.releases(), await journal.retries()
        if released:
            brought = await let_go_on(brought, released)
        if retried:
            brought = await try_again(brought, retried)
    except (BringupError, JournalError, StoreError, TimeoutError) as error:
        log.warning("release.delayed", error=chain_of(error))
    return brought
