"""The life of the process: lock, run, stay, end.

Signals: SIGTERM and SIGINT stop the process.  During a run no new instance is begun, those in progress are abandoned
where they are, and the shutdown report is written within ``limits.shutdown_report_deadline``; then the handling of
lifecycle events is finished, and driver and store are closed: ``bringup.daemon.closing`` has the deadlines.
SIGHUP stops it too, unless a service manager has started it: then the settings are read again.
"""

import os
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

import anyio
from anyio.abc import TaskGroup

from bringup import __version__
from bringup.daemon.decisions.outcomes import RunResult
from bringup.daemon.decisions.resume_policy import Resuming
from bringup.daemon.decisions.run_events import Observer
from bringup.daemon.errors import BringupError, chain_of
from bringup.daemon.logs import get_logger
from bringup.daemon.openstack.resource_provider import HostProvider
from bringup.daemon.recovery.boots import Boots
from bringup.daemon.recovery.context import Host, Startup
from bringup.daemon.recovery.deferred_instances import wait_for_needs
from bringup.daemon.recovery.executor import Executor
from bringup.daemon.recovery.host_lease import held_lease
from bringup.daemon.recovery.init_host import init_host, log_not_resumed
from bringup.daemon.recovery.lifecycle_events import LifecycleWatch
from bringup.daemon.recovery.pause import Pause
from bringup.daemon.recovery.start_claim import StartClaim
from bringup.daemon.recovery.verification import Verification
from bringup.daemon.service import assembly
from bringup.daemon.service.placement_gate import opened_placement, pass_placement
from bringup.daemon.service.standby import stand_by, tidy, wait_out_pause
from bringup.daemon.service.status_endpoint import open_endpoint, source_of
from bringup.daemon.service.supervision import Supervised, supervise
from bringup.daemon.settings import Settings
from bringup.daemon.status.endpoint.source import StatusSource
from bringup.daemon.status.observers import fan_out
from bringup.daemon.status.progress import Progress
from bringup.daemon.status.systemd import Notifier
from bringup.daemon.storage import state_directory
from bringup.daemon.storage.alive import Alive
from bringup.daemon.storage.identity import Identity, merge_identity, read_identity, store_identity
from bringup.daemon.storage.journal import Journal
from bringup.daemon.storage.outbox.base import Transport
from bringup.daemon.storage.outbox.outbox import Delivery, Outbox, report_outcomes, retries
from bringup.daemon.storage.store.base import Claimant, Store
from bringup.daemon.tasks import background, ended_by_signal
from bringup.drivers.base import Driver
from bringup.placement.client import PlacementClient

if TYPE_CHECKING:
    from bringup.daemon.openstack.rpc.client import Rpc

log = get_logger()


WITHOUT_JOURNAL = "nothing can be recorded: actions that must be recorded first are held, all others are done"


@dataclass(slots=True)
class Ending:
    """State of the end of the process: the result of the run, its report, whether a stop was requested."""

    result: RunResult | None = None
    delivery: Delivery | None = None
    """Where the report is; None: none is sent."""
    stopping: bool = False
    """A stop signal was received."""
    hurries: list[Callable[[], None]] = field(default_factory=list)
    """Called when a stop signal is received: they bound the waits that are left."""

    @property
    def complete(self) -> bool:
        """Check whether every instance has an outcome."""
        return self.result is not None and not self.result.unfinished


class Presenter(Protocol):
    """Display of a run."""

    def showing(self, progress: Progress) -> AbstractAsyncContextManager[None]:
        """Show it for as long as the block lasts."""

    def show_ending(self, ending: Ending, *, stays: bool) -> None:
        """Show how it ended; ``stays``: the daemon keeps running."""


OpenJournal = Callable[[Settings, str], AbstractAsyncContextManager[Journal]]
"""Opens the journal for a boot id."""


async def serve(
    settings: Settings,
    presenter: Presenter,
    *,
    once: bool,
    open_journal: OpenJournal = assembly.opened_journal,
    notifier: Notifier | None = None,
    load: Callable[[], Settings] | None = None,
) -> int:
    """Run, and stay until a signal unless ``once`` or ``service.after_init`` says otherwise; return the exit code.

    ``notifier`` reports progress to systemd.  ``load`` reads the settings again on SIGHUP; without it SIGHUP stops.

    :raises BringupError: the run could not be started, or ended in an error.
    """
    once = once or settings.service.after_init == "stop"
    directory = settings.host.state_directory
    unwritable = state_directory.prepare(directory)
    if unwritable is not None:
        log.warning("state_directory.not_written", path=str(directory), error=unwritable, means=WITHOUT_JOURNAL)
    with state_directory.hold_lock(directory):
        identity = _identity(settings)
        alive = assembly.alive(settings)
        boot_id = alive.boot.boot_id
        ending = Ending()
        source = source_of(settings, boot_id=boot_id)
        supervised = supervise(settings, source, notifier, load)
        stop = partial(_stop, ending, source, supervised)
        # Outermost: the status endpoint stays up until the process exits.
        async with (
            open_endpoint(settings, source) as listening,
            ended_by_signal(stop, on_hangup=supervised.on_hangup),
            background() as beside,
        ):
            beside.start_soon(supervised.run, name="supervised")
            log.info("service.started", host=settings.host.name, version=__version__)
            listening.say()
            for warning in settings.warnings:
                log.warning("settings.warning", warning=warning)
            if not state_directory.is_private(directory):
                log.warning("state_directory.not_private", path=str(directory), right="0700")
            service = _Service(settings, identity, alive, ending, source, supervised, once)
            await service.run_and_stay(presenter, open_journal)
        log.info("service.stopped")
        return _exit_code(ending, once=once)


def _identity(settings: Settings) -> Identity:
    """Read the identity of this host, and check that the state directory belongs to it.

    :raises SettingsError: it does not.
    """
    host = settings.host
    now = assembly.given_by(settings)
    try:
        return store_identity(host.state_directory, now, at=assembly.utc_now)
    except OSError as error:
        # A full disk must not stop a host: the identity is written at the next start.
        log.warning("identity.not_written", error=str(error))
        return merge_identity(read_identity(host.state_directory), now)


def _stop(ending: Ending, source: StatusSource, supervised: Supervised, number: signal.Signals) -> None:
    log.info("service.stopping", signal=number.name)
    source.stopping = True
    supervised.stopping()
    ending.stopping = True
    for hurry in ending.hurries:
        hurry()


def _exit_code(ending: Ending, *, once: bool) -> int:
    if not once:
        return os.EX_OK
    kept = ending.delivery in (Delivery.KEPT, Delivery.IN_MEMORY)
    return os.EX_TEMPFAIL if kept or not ending.complete else os.EX_OK


@dataclass(slots=True)
class _Service:
    """One life of the process, from the lock to its exit.  What is opened is closed in reverse order."""

    settings: Settings
    identity: Identity
    alive: Alive
    ending: Ending
    source: StatusSource
    supervised: Supervised
    once: bool
    """The process exits after the run."""

    opened: AsyncExitStack = field(init=False)
    beside: TaskGroup = field(init=False)
    """Tasks that run beside the run; they are cancelled before what they use is closed."""
    journal: Journal = field(init=False)
    rpc: "Rpc | None" = field(init=False)
    transport: Transport | None = field(init=False)
    outbox: Outbox = field(init=False)
    watch: LifecycleWatch = field(init=False)
    placement: PlacementClient = field(init=False)
    observer: Observer = field(init=False)

    async def run_and_stay(self, presenter: Presenter, open_journal: OpenJournal) -> None:
        """Bring the host back; stay, unless ``once``."""
        ending, notifier_loop = self.ending, self.supervised.notifier_loop
        async with AsyncExitStack() as self.opened, background() as self.beside:
            await self._open(open_journal)
            start = Startup(pass_placement=self._pass_placement, open_host=self._open_host, observer=self.observer)
            try:
                async with presenter.showing(self.source.progress):
                    brought = await init_host(start)
                    if self.once or self.settings.store.is_nova_conductor:
                        # A nova-compute that is ordered after this host would call active instances stopped.
                        brought = await wait_out_pause(brought, self.supervised.vitals)
                    if self.once:
                        # No daemon stays that could wait for what is deferred.
                        brought = await wait_for_needs(brought)
            except BringupError as error:
                self.source.progress.start_failed(chain_of(error))
                notifier_loop.send_due()
                raise
            finally:
                if ending.result is not None:
                    log_result(ending.result, self.settings.resume.guests)
                    presenter.show_ending(ending, stays=not self.once and not ending.stopping)
            notifier_loop.back()
            if self.once:
                await tidy(brought, self.supervised.vitals, stays=False)
                return
            # Ten thousand outcomes need not be kept for as long as the daemon lives.
            ending.result = None
            self.beside.start_soon(stand_by, brought, self.supervised.vitals, name="standby")
            store = brought.host.executor.store
            del brought
            await self._stay(store)

    async def _open(self, open_journal: OpenJournal) -> None:
        """Open what is needed before Placement is called, and stays open for the whole run."""
        settings, vitals = self.settings, self.supervised.vitals
        self.journal = await self.opened.enter_async_context(open_journal(settings, self.alive.boot.boot_id))
        self.rpc = await self.opened.enter_async_context(assembly.opened_messaging(settings))
        self.transport = await self.opened.enter_async_context(assembly.opened_transport(settings, rpc=self.rpc))
        attempting = partial(vitals.expecting, "the outbox", within_s=settings.scheduler.timeout)
        self.outbox = Outbox(settings.host.state_directory / "outbox", attempting=attempting)
        self.source.reports = self.outbox.pending
        self.watch = LifecycleWatch(
            settings.host.name,
            deadline_s=settings.limits.instance_deadline,
            vitals=vitals,
            owes_elsewhere=assembly.owes_elsewhere(settings),
        )
        self.opened.callback(self.watch.close)
        # Whatever stops the process: the journal must not count this boot as still in use.
        self.opened.callback(self.alive.write, is_kept=False)
        self.observer = fan_out(self.source.recorder.observe, self.watch.observe)
        # The version, the connections and the token of the gate serve the whole run.
        opening = opened_placement(settings, boot_id=self.alive.boot.boot_id)
        self.placement = await self.opened.enter_async_context(opening)

    async def _pass_placement(self) -> HostProvider:
        return await pass_placement(self.settings, self.placement, self.observer, node_uuid=self.identity.node_uuid)

    async def _open_host(self) -> Host:
        """Create the driver, open the store, acquire the lease, and start the tasks that need them."""
        settings, vitals = self.settings, self.supervised.vitals
        driver = assembly.make_driver(settings, acting=True, capacity=self.source.capacity)
        self.opened.push_async_callback(assembly.close_driver, driver)
        store = await self.opened.enter_async_context(assembly.opened_store(settings, rpc=self.rpc))
        self.ending.hurries.append(partial(assembly.hurry, store))
        claimant = Claimant(settings.host.name, self.identity.node_uuid)
        # Nova's records name the node whether or not Nova can be reached: that lease does not lapse.
        leased = held_lease(store, claimant, for_s=settings.store.lease, lapses=not settings.store.is_nova_conductor)
        lease = await self.opened.enter_async_context(leased)
        self.beside.start_soon(lease.keep, vitals, name="lease")
        pause = Pause(self.journal, assembly.utc_now, self.source.progress.pause)
        self.beside.start_soon(pause.follow, name="pause")
        claim = StartClaim(store=store, driver=driver, claimant=claimant, pause=pause, check_lease=lease.check)
        executor = assembly.make_executor(settings, driver, store, start_claim=claim, journal=self.journal)
        if settings.driver.handle_lifecycle_events:
            self.beside.start_soon(self.watch.watch, executor, name="lifecycle")
        return self._host(executor, *await self._follow_guests(driver))

    async def _follow_guests(self, driver: Driver) -> tuple[Boots | None, Verification | None]:
        """Start what follows the boots of guests, and what watches them afterwards in a process that stays."""
        settings, observer, journal = self.settings, self.observer, self.journal
        verification = None
        if not self.once:
            verification = assembly.make_verification(settings, driver, observer=observer, journal=journal)
        if verification is not None:
            observer = fan_out(observer, verification.observe)
            await self.beside.start(verification.run, name="verification")
        boots = assembly.make_boots(settings, driver, self.source.capacity, observer=observer, journal=journal)
        if boots is not None:
            await self.beside.start(boots.run, name="boots")
        return boots, verification

    def _host(self, executor: Executor, boots: Boots | None, verification: Verification | None) -> Host:
        settings = self.settings
        return Host(
            name=settings.host.name,
            run_id=str(uuid4()),
            boot_id=self.alive.boot.boot_id,
            executor=executor,
            observer=self.observer if boots is None else fan_out(self.observer, boots.observe),
            boots=boots,
            verification=verification,
            limits=settings.limits,
            capacity=self.source.capacity,
            report=self._report,
            on_event=self.watch.take if settings.driver.handle_lifecycle_events else None,
            journal=self.journal,
            resuming=Resuming(settings.resume),
            guards=settings.guards,
            pace=settings.pace,
            owes_elsewhere=assembly.owes_elsewhere(settings),
            on_filter_change=self.source.filter_changed,
            needs=assembly.needs_policy(settings, on_wait=self.source.waits),
            accepted_guests=self.identity.accepted_guests,
            alive=self.alive,
            defer_iptables_apply=settings.driver.defer_iptables_apply,
        )

    async def _report(self, result: RunResult) -> str | None:
        """Send the report of a run; return where it is, None if none is sent."""
        settings, ending = self.settings, self.ending
        ending.result = result
        if not assembly.reports(settings):
            return None
        # Until the outcome is known: a report that is interrupted here was not sent.
        ending.delivery = Delivery.IN_MEMORY
        # A quarter of the deadline: half of it may be the firewall's, and the disk needs some.
        timeout_s = min(settings.scheduler.timeout, settings.limits.shutdown_report_deadline / 4)
        ending.delivery = await report_outcomes(
            result, outbox=self.outbox, transport=self.transport, created_at=assembly.utc_now(), timeout_s=timeout_s
        )
        return ending.delivery.value

    async def _stay(self, store: Store) -> None:
        """Stay until cancelled: the outbox is sent here, lifecycle events are handled in the background."""
        settings, transport, scheduler = self.settings, self.transport, self.settings.scheduler
        self.source.staying.set()
        log.info("service.ready")
        if transport is None:
            await anyio.sleep_forever()
            return
        async with anyio.create_task_group() as group:
            sync = assembly.keeping_in_step(settings, transport, store, self.supervised.vitals)
            if sync is not None:
                group.start_soon(sync, name="sync")
            await self.outbox.run_forever(
                transport, retries(initial_s=scheduler.retry_initial, max_s=scheduler.retry_max)
            )


def log_result(result: RunResult, resume: str) -> None:
    """Log the result of a run, and the guests that it left off because of ``resume.guests``."""
    log_not_resumed(result, resume)
    log.info(
        "run.ended",
        run_id=result.run_id,
        boot_id=result.boot_id,
        host=result.host,
        took_s=round(result.took_s, 3),
        unfinished=len(result.unfinished),
        error=result.error,
        **result.counts(),
        did=result.count_done(),
    )
