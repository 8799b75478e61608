"""From settings to the parts that a run is made with.

What is heavy to import is imported here where it is used: a booting host should ask Placement first.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import anyio

from bringup.daemon.errors import SettingsError
from bringup.daemon.evacuated import SettingWitness
from bringup.daemon.executor import Executor
from bringup.daemon.host import Limits
from bringup.daemon.logs import get_logger
from bringup.daemon.operations import Shutdown
from bringup.daemon.scheduler.base import Transport
from bringup.daemon.settings import Settings, require_scenario
from bringup.daemon.store.base import Store
from bringup.drivers.base import Driver

log = get_logger()

CLOSE_S = 5.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def utc_now() -> datetime:
    """Read the clock."""
    return datetime.now(UTC)


def boot_id() -> str:
    """Give the kernel's boot id: another one after every boot."""
    return BOOT_ID.read_text(encoding="ascii").strip()


def limits(settings: Settings) -> Limits:
    """Give how much at once and how long at most."""
    return Limits(
        concurrency=settings.limits.concurrency,
        instance_deadline_s=settings.limits.instance_deadline,
        host_deadline_s=settings.limits.host_deadline,
        last_word_deadline_s=settings.limits.last_word_deadline,
    )


def check_driver(settings: Settings) -> None:
    """Find out, before anything is waited for, whether the driver can be made.

    :raises SettingsError: it cannot be.
    """
    scenario = require_scenario(settings)
    if not scenario.is_file():
        raise SettingsError([f"driver.scenario: {scenario} is not a file; name a scenario file"])


def make_driver(settings: Settings) -> Driver:
    """Make the driver that is set; it is not initialized yet.

    :raises SettingsError: its own settings are wrong.
    """
    from bringup.drivers.simulated import ScenarioError, SimulatedDriver

    try:
        return SimulatedDriver.from_file(require_scenario(settings), state_path=settings.driver.scenario_state)
    except ScenarioError as error:
        raise SettingsError([f"driver.scenario: {error}"]) from error


async def close_driver(driver: Driver) -> None:
    """Let go of a hypervisor; one that hangs or fails must not keep the process, nor change how it ends."""
    with anyio.move_on_after(CLOSE_S, shield=True) as scope:
        try:
            await driver.close()
        except Exception:
            log.exception("driver.not_closed")
    if scope.cancelled_caught:
        log.error("driver.not_closed", deadline_s=CLOSE_S)


@asynccontextmanager
async def opened_store(settings: Settings, *, must_exist: bool = False) -> AsyncIterator[Store]:
    """Open the store that is set, and close it at the end.

    :raises BringupError: it cannot be opened.
    """
    from bringup.daemon.store.sqlite import opened

    async with opened(settings.store.path, busy_timeout_s=settings.store.busy_timeout, must_exist=must_exist) as store:
        yield store


def make_executor(settings: Settings, driver: Driver, store: Store) -> Executor:
    """Put together what actions are carried out with."""
    return Executor(
        driver=driver,
        store=store,
        now=utc_now,
        shutdown=Shutdown(
            timeout_s=settings.guests.shutdown_timeout,
            retry_interval_s=settings.guests.shutdown_retry_interval,
        ),
        witness=SettingWitness(settings.evacuated.shared_storage),
    )


def reports(settings: Settings) -> bool:
    """Tell whether the scheduler is to be told anything (Nova's ``track_instance_changes``)."""
    return settings.scheduler.transport != "none" and settings.scheduler.track_instance_changes


@asynccontextmanager
async def opened_transport(settings: Settings) -> AsyncIterator[Transport | None]:
    """Open the way to the scheduler; None where none is set."""
    if not reports(settings):
        yield None
        return
    import ssl

    import httpx

    from bringup.daemon.scheduler.http import HttpTransport

    scheduler = settings.scheduler
    url = scheduler.url or ""
    token = None if scheduler.token is None else scheduler.token.get_secret_value()
    # As for Placement: the system's certificates, loaded only where they are needed; proxies are no settings of ours.
    verify = ssl.create_default_context() if httpx.URL(url).scheme == "https" else False
    async with httpx.AsyncClient(verify=verify, trust_env=False) as client:
        yield HttpTransport(client, url, token=token, timeout_s=scheduler.timeout)
