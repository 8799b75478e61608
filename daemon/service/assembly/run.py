"""Parts of a run that are created from the settings: boot, identity, executor, journal."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

from bringup.daemon.decisions.pace import FLOOR, START_AT_MOST, PaceController
from bringup.daemon.decisions.run_events import Observer
from bringup.daemon.recovery.boots import Boots
from bringup.daemon.recovery.context import NeedsPolicy
from bringup.daemon.recovery.evacuated_guests import DiskKeeper, SettingWitness
from bringup.daemon.recovery.executor import Executor
from bringup.daemon.recovery.start_claim import StartClaim
from bringup.daemon.recovery.verification import Verification
from bringup.daemon.service import clock_sync
from bringup.daemon.settings import Settings
from bringup.daemon.storage import boot as boots
from bringup.daemon.storage.alive import Alive
from bringup.daemon.storage.identity import CurrentIdentity, read_current
from bringup.daemon.storage.journal import Journal
from bringup.daemon.storage.store.base import Store
from bringup.drivers.base import Driver
from bringup.drivers.capacity import Capacity
from bringup.drivers.memory_pressure import read_memory_pressure

JOURNAL: Final = "journal.sqlite"
"""Its name in the state directory."""


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def given_by(settings: Settings) -> CurrentIdentity:
    """Return the identity of this host, from the settings and the machine."""
    host = settings.host
    return read_current(host=host.name, node_uuid=host.node_uuid, machine_id=host.machine_id)


def this_boot(settings: Settings) -> boots.CurrentBoot:
    """Return the current boot.

    :raises SettingsError: its id cannot be read.
    """
    is_default = settings.source_of("host.boot_id") == "default"
    return boots.this_boot(settings.host.boot_id, is_default=is_default)


def boot_id(settings: Settings) -> str:
    """Return the id of this boot, which changes at every boot.

    :raises SettingsError: it cannot be read.
    """
    return this_boot(settings).boot_id


def alive(settings: Settings, boot: boots.CurrentBoot | None = None) -> Alive:
    """Return the file that records that this host is up.

    :raises SettingsError: the boot id cannot be read.
    """
    return Alive(
        directory=settings.host.state_directory,
        boot=boot or this_boot(settings),
        is_clock_set=clock_sync.is_set,
        trusts_clock=settings.resume.clock == "trusted",
    )


def owes_elsewhere(settings: Settings) -> bool:
    """Check whether deletions leave ports and volumes to other services (``deletion.finished_by``)."""
    finished_by = settings.deletion.finished_by
    return finished_by == "nova" or (finished_by == "auto" and settings.store.is_nova_conductor)


def needs_policy(settings: Settings, *, on_wait: Callable[[int, float], None]) -> NeedsPolicy:
    """Return how long deferred instances are tried again."""
    return NeedsPolicy(
        wait_s=settings.resume.wait_for_needs,
        # Nova's own records: nova-compute works with them once the host is back.
        daemon_starts=not settings.store.is_nova_conductor,
        on_wait=on_wait,
    )


def make_boots(
    settings: Settings, driver: Driver, capacity: Capacity, *, observer: Observer, journal: Journal
) -> Boots | None:
    """Build what follows the guests that boot; None: a simulated host shows nothing of them, or no slot is kept."""
    if settings.driver.name != "libvirt" or not settings.pace.hold:
        return None
    start = max(FLOOR, min(START_AT_MOST, len(os.sched_getaffinity(0))))
    return Boots(
        driver,
        settings.pace,
        capacity,
        PaceController(ceiling=capacity.number, start=start),
        observer=observer,
        journal=journal,
        read_pressure=read_memory_pressure,
    )


def make_verification(
    settings: Settings, driver: Driver, *, observer: Observer, journal: Journal
) -> Verification | None:
    """Build what watches guests after their boot; None: nothing is known of their boots, or they are not to be."""
    if settings.driver.name != "libvirt" or not settings.pace.hold or not settings.verify.within:
        return None
    return Verification(driver, settings.verify, observer=observer, journal=journal)


def make_executor(
    settings: Settings,
    driver: Driver,
    store: Store,
    *,
    start_claim: StartClaim,
    journal: Journal,
) -> Executor:
    """Build the executor of actions."""
    return Executor(
        driver=driver,
        store=store,
        now=utc_now,
        shutdown=settings.guests,
        witness=SettingWitness(settings.evacuated.shared_storage),
        start_claim=start_claim,
        disk_keeper=DiskKeeper(journal=journal, keep_for_s=settings.evacuated.keep_disks_for, now=utc_now),
    )


@asynccontextmanager
async def opened_journal(settings: Settings, boot_id: str) -> AsyncIterator[Journal]:
    """Open the journal of this host, and close it on exit; one that cannot be used does not stop the start."""
    from bringup.daemon.storage.journal.sqlite import open_journal

    async with open_journal(
        settings.host.state_directory / JOURNAL,
        boot_id=boot_id,
        keep_runs=settings.journal.keep_runs,
        keep_days=settings.journal.keep_days,
        now=utc_now,
    ) as journal:
        yield journal
