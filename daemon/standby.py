"""What the daemon does once the host is back: waits for an operator's word, says that it lives, tidies up."""

from contextlib import suppress
from typing import NoReturn

import anyio

from bringup.daemon.errors import BringupError, JournalError, chain_of
from bringup.daemon.evacuated import delete_kept_disks_that_are_due
from bringup.daemon.init_host import Brought
from bringup.daemon.logs import get_logger
from bringup.daemon.release import held_by, let_go_on
from bringup.daemon.vitals import Vitals

log = get_logger()

LOOK_EVERY_S = 1.0
"""How soon a release is noticed."""
JOURNAL_S = 10.0
"""How long one read or write of the journal takes at most where the disk is well."""
TIDY_EVERY_S = 60.0
"""How exact the time is that a host was away for, and how late disks that were set aside are deleted."""


async def stand_by(brought: Brought, vitals: Vitals) -> None:
    """Stay until cancelled."""
    async with anyio.create_task_group() as group:
        if held_by(brought):
            group.start_soon(_await_releases, brought, vitals, name="releases")
        group.start_soon(_keep_tidy, brought, vitals, name="tidy")


async def _keep_tidy(brought: Brought, vitals: Vitals) -> NoReturn:
    while True:
        await tidy(brought, vitals)
        await anyio.sleep(TIDY_EVERY_S)


async def tidy(brought: Brought, vitals: Vitals) -> None:
    """Write that this host lives; delete the disks whose time has come, which may take as long as it wants."""
    host = brought.host
    with suppress(JournalError), vitals.expecting("the journal", within_s=JOURNAL_S):
        await host.journal.seen(host.now())
    await delete_kept_disks_that_are_due(host.journal, host.driver, host.now)


async def _await_releases(brought: Brought, vitals: Vitals) -> None:
    while held_by(brought):
        await anyio.sleep(LOOK_EVERY_S)
        try:
            with vitals.expecting("the look for releases", within_s=JOURNAL_S):
                released = await brought.host.journal.releases()
            if released:
                brought = await let_go_on(brought, released)
        except (BringupError, JournalError, TimeoutError) as error:
            log.warning("release.waits", error=chain_of(error))
