"""From settings to the parts that a run is made with.

What is heavy to import is imported here where it is used: a booting host should ask Placement first.
"""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn

import anyio

from bringup.daemon import clock, closing
from bringup.daemon.alive import Alive
from bringup.daemon.boot import Boot as BootOfHost
from bringup.daemon.boot import this_boot
from bringup.daemon.errors import SettingsError, UsageError
from bringup.daemon.evacuated import DiskKeeper, SettingWitness
from bringup.daemon.executor import Executor
from bringup.daemon.fence import StartFence
from bringup.daemon.guards import Guards
from bringup.daemon.host import Limits, NeedsPolicy
from bringup.daemon.journal import Journal
from bringup.daemon.logs import get_logger
from bringup.daemon.operations import Shutdown
from bringup.daemon.resuming import Resuming
from bringup.daemon.scheduler.base import Transport
from bringup.daemon.settings import Settings, require_scenario
from bringup.daemon.store.base import Claimant, ImportingStore, Store
from bringup.daemon.vitals import Vitals
from bringup.drivers.base import Driver

if TYPE_CHECKING:
    from ssl import SSLContext

    from bringup.daemon.rpc.client import Rpc
    from bringup.daemon.store.connecting import Tls
    from bringup.daemon.store.sql import Database
    from bringup.drivers.network import HostNetwork

log = get_logger()

CLOSE_S = closing.DRIVER_S
JOURNAL = "journal.sqlite"
NO_PYROUTE2 = (
    "network.plug_vifs = true needs the extra bringup[network]: in the checkout, /opt/bringup/bin/pip install "
    "'.[network]', or set it to false where something else makes the NICs of guests ready"
)
NO_AIO_PIKA = (
    'store.url = "nova-conductor:" and scheduler.transport = "nova" need the extra bringup[openstack]: in the '
    "checkout, /opt/bringup/bin/pip install '.[openstack]'"
)
NO_POSTGRESQL = (
    "store.url: PostgreSQL needs the extra bringup[postgresql]: in the checkout, /opt/bringup/bin/pip install "
    "'.[postgresql]'"
)


def utc_now() -> datetime:
    """Read the clock."""
    return datetime.now(UTC)


def boot_id(settings: Settings) -> str:
    """Give the id of this boot: another one after every boot.

    :raises SettingsError: there is none to read.
    """
    return this_boot(settings).boot_id


def alive(settings: Settings, boot: BootOfHost | None = None) -> Alive:
    """Give where it is noted that this host is up.

    :raises SettingsError: there is no boot id to read.
    """
    return Alive(
        directory=settings.host.state_directory,
        boot=boot or this_boot(settings),
        is_clock_set=clock.is_set,
        trusts_clock=settings.resume.clock == "trusted",
    )


def limits(settings: Settings) -> Limits:
    """Give how much at once and how long at most."""
    return Limits(
        concurrency=settings.limits.concurrency,
        instance_deadline_s=settings.limits.instance_deadline,
        host_deadline_s=settings.limits.host_deadline,
        last_word_deadline_s=settings.limits.last_word_deadline,
        host_wait_s=settings.limits.host_wait,
    )


def check_driver(settings: Settings) -> None:
    """Find out, before anything is waited for, whether the driver can be made.

    :raises SettingsError: it cannot be.
    """
    if settings.driver.name == "libvirt":
        from bringup.daemon.libvirt_host import require_binding

        require_binding()
        make_network(settings)
        return
    scenario = require_scenario(settings)
    if not scenario.is_file():
        raise SettingsError([f"driver.scenario: {scenario} is not a file; name a scenario file"])


def has_driver(settings: Settings) -> bool:
    """Tell whether a hypervisor is set: the simulated one, which is the default, is only with a scenario."""
    return settings.driver.name != "simulated" or settings.driver.scenario is not None


def make_driver(settings: Settings, *, acting: bool = False) -> Driver:
    """Make the driver that is set; it is not initialized yet.  Only one for ``acting`` changes anything by itself.

    :raises SettingsError: its own settings are wrong.
    """
    if settings.driver.name == "libvirt":
        from bringup.daemon.libvirt_host import make_libvirt_driver

        # One that only looks makes nothing ready, and knows what would be made.
        return make_libvirt_driver(settings, acting=acting, network=make_network(settings))
    from bringup.drivers.simulated import ScenarioError, SimulatedDriver

    try:
        return SimulatedDriver.from_file(require_scenario(settings), state_path=settings.driver.scenario_state)
    except ScenarioError as error:
        raise SettingsError([f"driver.scenario: {line}" for line in str(error).split("\n")]) from None


def follow_limit(settings: Settings, driver: Driver, concurrency: int) -> None:
    """Have the driver do as much at once as there are slots: they were changed by a reload."""
    if settings.driver.name == "libvirt":
        from bringup.daemon.libvirt_host import follow_limit

        follow_limit(settings, driver, concurrency)


def make_network(settings: Settings) -> "HostNetwork":
    """Make what plugs and filters the NICs of guests; the driver opens it.

    :raises SettingsError: what it needs is not installed.
    """
    from bringup.drivers.network import make_host_network

    network = settings.network
    # Found here and not when the first guest is plugged: all of them would be set to ERROR.
    if network.plug_vifs and find_spec("pyroute2") is None:
        raise SettingsError([NO_PYROUTE2])
    return make_host_network(
        plugs=network.plug_vifs,
        filters=network.filter == "nftables",
        ovs_bridge=network.integration_bridge,
        ovsdb=network.ovsdb,
        isolates_vifs=network.isolate_vifs,
        deadline_s=network.deadline,
    )


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
async def opened_journal(settings: Settings, boot_id: str) -> AsyncIterator[Journal]:
    """Open the journal of this host, and close it at the end; one that cannot be used does not stop the start."""
    from bringup.daemon.journal.sqlite import opened

    async with opened(
        settings.host.state_directory / JOURNAL,
        boot_id=boot_id,
        keep_runs=settings.journal.keep_runs,
        keep_days=settings.journal.keep_days,
        now=utc_now,
    ) as journal:
        yield journal


@asynccontextmanager
async def opened_messaging(settings: Settings) -> AsyncIterator["Rpc | None"]:
    """Make calls to Nova's services possible, and let go of RabbitMQ at the end; None where nothing needs them.

    :raises SettingsError: how RabbitMQ is reached is not said rightly, or what it needs is not installed.
    """
    if not settings.store.is_nova_conductor and settings.scheduler.transport != "nova":
        yield None
        return
    from bringup.daemon.credentials.messaging import broker_of

    try:
        from bringup.daemon.rpc.client import opened_rpc
    except ImportError as error:
        raise SettingsError([NO_AIO_PIKA]) from error
    messaging = settings.messaging
    async with opened_rpc(broker_of(settings), in_flight=messaging.requests, deadline_s=messaging.deadline) as rpc:
        yield rpc


@asynccontextmanager
async def opened_store(
    settings: Settings, *, must_exist: bool = False, rpc: "Rpc | None" = None
) -> AsyncIterator[Store]:
    """Open the store that is set, and close it at the end; ``rpc`` is what is open already.

    :raises BringupError: it cannot be opened.
    """
    if not settings.store.is_nova_conductor:
        async with opened_own_store(settings, must_exist=must_exist) as store:
            yield store
        return
    from bringup.daemon.store.nova_conductor import NovaConductorStore

    async with AsyncExitStack() as opened:
        caller = rpc or await opened.enter_async_context(opened_messaging(settings))
        if caller is None:
            raise SettingsError([f"store.url: {settings.store.url} is not used by these settings"])
        nova = NovaConductorStore(caller, name_template=settings.store.instance_name_template)
        opened.push_async_callback(nova.close)
        yield nova


@asynccontextmanager
async def opened_own_store(settings: Settings, *, must_exist: bool = False) -> AsyncIterator[ImportingStore]:
    """Open the database that is set, and close it at the end.

    :raises UsageError: the records are Nova's: nothing is put into them from outside.
    :raises BringupError: it cannot be opened.
    """
    if settings.store.is_nova_conductor:
        raise UsageError(
            f'store.url = "{settings.store.url}": the records are Nova\'s own, and nothing is imported into them'
        )
    path = settings.store.path
    if path is None:
        async with _opened_postgresql(settings) as store:
            yield store
        return
    from bringup.daemon.store.sqlite import opened

    async with opened(path, busy_timeout_s=settings.store.busy_timeout, must_exist=must_exist) as store:
        yield store


def open_database(settings: Settings, *, must_exist: bool = False) -> "Database":
    """Open the database of the store that is set; blocks.

    :raises BringupError: it cannot be opened.
    """
    path = settings.store.path
    if path is not None:
        from bringup.daemon.store import sqlite

        return sqlite.open_database(path, settings.store.busy_timeout, must_exist=must_exist)
    try:
        from bringup.daemon.store import postgresql
    except ImportError as error:
        raise SettingsError([NO_POSTGRESQL]) from error
    store = settings.store
    return postgresql.open_database(store.url, store_password(settings), store.wait, tls=_store_tls(settings))


def _opened_postgresql(settings: Settings) -> AbstractAsyncContextManager[ImportingStore]:
    try:
        from bringup.daemon.store.postgresql import opened
    except ImportError as error:
        raise SettingsError([NO_POSTGRESQL]) from error
    store = settings.store
    return opened(store.url, password=store_password(settings), wait_s=store.wait, tls=_store_tls(settings))


def _store_tls(settings: Settings) -> "Tls":
    from bringup.daemon.store.connecting import Tls

    store = settings.store
    return Tls(mode=store.tls, ca_file=store.ca_file, cert_file=store.cert_file, key_file=store.key_file)


def store_password(settings: Settings) -> str | None:
    """Give the password of PostgreSQL's user; None where none is set."""
    password = settings.store.password
    return None if password is None else password.get_secret_value()


def hurry(store: Store) -> None:
    """Have nothing wait for the store any more: the daemon ends."""
    from bringup.daemon.store.sql import SqlStore

    if isinstance(store, SqlStore):
        store.hurry()


def make_executor(
    settings: Settings,
    driver: Driver,
    store: Store,
    *,
    claimant: Claimant,
    check_lease: Callable[[], None],
    journal: Journal,
) -> Executor:
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
        start_fence=StartFence(store=store, driver=driver, claimant=claimant, check_lease=check_lease),
        disk_keeper=DiskKeeper(journal=journal, keep_for_s=settings.evacuated.keep_disks_for, now=utc_now),
    )


def resuming(settings: Settings) -> Resuming:
    """Give the policy by which guests that ran before are brought back."""
    return Resuming(
        guests=settings.resume.guests,
        max_downtime_s=settings.resume.max_downtime,
        instance_policy=settings.resume.instance_policy,
    )


def owes_elsewhere(settings: Settings) -> bool:
    """Tell whether a deletion owes ports and volumes to services that this host cannot tell of it."""
    finished_by = settings.deletion.finished_by
    return finished_by == "nova" or (finished_by == "auto" and settings.store.is_nova_conductor)


def needs_policy(settings: Settings, *, run_waits: bool, on_wait: Callable[[int, float], None]) -> NeedsPolicy:
    """Give for how long what is deferred is tried again."""
    return NeedsPolicy(
        wait_s=settings.resume.wait_for_needs,
        run_waits=run_waits,
        # Nova's own records: nova-compute works with them once the host is back.
        daemon_starts=not settings.store.is_nova_conductor,
        on_wait=on_wait,
    )


def guards(settings: Settings) -> Guards:
    """Give what wants an operator's word first."""
    return Guards(
        destroy_freely=settings.guards.destroy_freely,
        destroy_at_most=settings.guards.destroy_at_most,
        destroy_share=settings.guards.destroy_share,
        quarantine_after=settings.guards.quarantine_after,
        powers_off_foreign=settings.guards.foreign_running == "power_off",
    )


def reports(settings: Settings) -> bool:
    """Tell whether the scheduler is to be told anything (Nova's ``track_instance_changes``)."""
    return settings.scheduler.transport != "none" and settings.scheduler.track_instance_changes


@asynccontextmanager
async def opened_transport(settings: Settings, *, rpc: "Rpc | None" = None) -> AsyncIterator[Transport | None]:
    """Open the way to the scheduler; None where none is set.  ``rpc`` is what is open already."""
    if not reports(settings):
        yield None
        return
    scheduler = settings.scheduler
    if scheduler.transport == "nova":
        from bringup.daemon.scheduler.nova import NovaTransport

        async with AsyncExitStack() as opened:
            caster = rpc or await opened.enter_async_context(opened_messaging(settings))
            yield None if caster is None else NovaTransport(caster, timeout_s=scheduler.timeout)
        return
    import httpx

    from bringup.daemon.scheduler.http import HttpTransport

    url = scheduler.url or ""
    token = None if scheduler.token is None else scheduler.token.get_secret_value()
    # As for Placement: the system's certificates, loaded only where they are needed; proxies are no settings of ours.
    verify = scheduler_tls(settings) if httpx.URL(url).scheme == "https" else False
    async with httpx.AsyncClient(verify=verify, trust_env=False) as client:
        yield HttpTransport(client, url, token=token, timeout_s=scheduler.timeout)


def scheduler_tls(settings: Settings) -> "SSLContext":
    """Give what the scheduler's certificate is verified with.

    :raises SettingsError: the file cannot be used.
    """
    from bringup.placement.errors import NotUnderstood
    from bringup.placement.tls import Trust, context

    try:
        return context(Trust(ca_file=settings.scheduler.ca_file, ca_name="scheduler.ca_file"))
    except NotUnderstood as error:
        raise SettingsError([str(error)]) from None


def keeping_in_step(
    settings: Settings, transport: Transport | None, store: Store, vitals: Vitals
) -> Callable[[], Coroutine[Any, Any, NoReturn]] | None:
    """Give what tells nova-scheduler every so often which instances are here; None where nobody is to be told."""
    every_s = settings.scheduler.sync_interval
    if transport is None or settings.scheduler.transport != "nova" or not every_s:
        return None
    from bringup.daemon.scheduler.nova import NovaTransport, sync_forever

    if not isinstance(transport, NovaTransport):
        return None
    limit_s = settings.messaging.deadline + settings.scheduler.timeout
    return partial(
        sync_forever,
        transport,
        store,
        settings.host.name,
        every_s=every_s,
        expecting=partial(vitals.expecting, "the sync with nova-scheduler", within_s=limit_s),
    )
