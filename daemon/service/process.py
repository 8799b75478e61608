"""The life of the process: lock, run, stay, end.

Signals: SIGTERM and SIGINT stop the process.  During a run no new instance is begun, those in progress are abandoned
where they are, and the shutdown report is written within ``limits.shutdown_report_deadline``; then the handling of
lifecycle events is finished, and driver and store are closed: ``bringup.daemon.closing`` has the deadlines.
SIGHUP stops it too, unless a service manager has started it: then the settings are read again.
"""

import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol
from uuid import uuid4

import anyio

from bringup import __version__
from bringup.daemon.decisions.outcomes import Kind, RunResult
from bringup.daemon.decisions.resume_policy import Resuming
from bringup.daemon.decisions.run_events import Observer
from bringup.daemon.errors import BringupError, chain_of
from bringup.daemon.logs import get_logger
from bringup.daemon.openstack.resource_provider import HostProvider
from bringup.daemon.recovery.context import Host, Startup
from bringup.daemon.recovery.deferred_instances import wait_for_needs
from bringup.daemon.recovery.executor import Executor
from bringup.daemon.recovery.host_lease import held_lease
from bringup.daemon.recovery.init_host import Brought, init_host
from bringup.daemon.recovery.left_off import tell_left_off
from bringup.daemon.recovery.lifecycle_events import LifecycleWatch
from bringup.daemon.service import assembly
from bringup.daemon.service.placement_gate import opened_placement, pass_placement
from bringup.daemon.service.standby import stand_by, tidy
from bringup.daemon.service.status_endpoint import answering, source_of
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

if TYPE_CHECKING:
    from bringup.daemon.openstack.rpc.client import Rpc

log = get_logger()


WITHOUT_JOURNAL = "nothing is remembered: what must be on record first is held, everything else is done"


@dataclass(slots=True)
class Ending:
    """How a run ended, as far as the process knows."""

    result: RunResult | None = None
    delivery: Delivery | None = None
    """Where the report is; None where none was to be made."""
    stopping: bool = False
    """A signal has come."""
    hurries: list[Callable[[], None]] = field(default_factory=list)
    """Told when it comes: what may be waited for then is bounded."""

    @property
    def complete(self) -> bool:
        """Tell whether every instance was settled."""
        return self.result is not None and not self.result.unfinished


class Presenter(Protocol):
    """Who shows the run."""

    def showing(self, progress: Progress) -> AbstractAsyncContextManager[None]:
        """Show it for as long as the block lasts."""

    def show_ending(self, ending: Ending, *, stays: bool) -> None:
        """Show how it ended; ``stays``: the daemon goes on."""


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
    """Run, and stay until a signal unless ``once`` or ``service.after_init`` says otherwise; give the exit code.

    ``notifier`` is told how far it is.  ``load`` reads the settings again on SIGHUP, which without it is the end.

    :raises BringupError: the run could not be begun, or ended in an error.
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
        # Outermost: it can be asked until the process ends.
        async with (
            answering(settings, source) as listening,
            ended_by_signal(stop, on_hangup=supervised.on_hangup),
            background() as beside,
        ):
            beside.start_soon(supervised.run, name="supervised")
            log.info("service.started", host=settings.host.name, version=__version__)
            listening.say()
            for warning in settings.warnings:
                log.warning("settings.doubtful", warning=warning)
            if not state_directory.is_private(directory):
                log.warning("state_directory.not_private", path=str(directory), right="0700")
            service = _Service(settings, identity, alive, ending, open_journal, source, supervised)
            await service.run_and_stay(presenter, once=once)
        log.info("service.stopped")
        return _exit_code(ending, once=once)


def _identity(settings: Settings) -> Identity:
    """Make sure that this is the host that the state directory is of.

    :raises SettingsError: it is not.
    """
    host = settings.host
    now = assembly.given_by(settings)
    try:
        return store_identity(host.state_directory, now, at=assembly.utc_now)
    except OSError as error:
        # A host comes back on a full disk too: what cannot be remembered now is remembered next time.
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


@dataclass(frozen=True, slots=True)
class _Service:
    """One life of the process, from the lock to its end."""

    settings: Settings
    identity: Identity
    alive: Alive
    ending: Ending
    open_journal: OpenJournal
    source: StatusSource
    supervised: Supervised

    async def run_and_stay(self, presenter: Presenter, *, once: bool) -> None:
        """Bring the host back; stay, unless ``once``."""
        settings, ending, vitals = self.settings, self.ending, self.supervised.vitals
        # What is opened is closed last: the background works with it.
        async with AsyncExitStack() as opened, background() as beside:
            journal = await opened.enter_async_context(self.open_journal(settings, self.alive.boot.boot_id))
            rpc = await opened.enter_async_context(assembly.opened_messaging(settings))
            transport = await opened.enter_async_context(assembly.opened_transport(settings, rpc=rpc))
            outbox = self._outbox()
            watch = self._watch()
            opened.callback(watch.close)
            # Whatever ends this, nobody goes on noting it.
            opened.callback(self.alive.write, is_kept=False)
            progress = self.source.progress
            observer = fan_out(self.source.recorder.observe, watch.observe)

            # Kept open for the run: what was agreed on at the gate, the connections and the token serve all of it.
            client = await opened.enter_async_context(opened_placement(settings))

            async def at_gate() -> HostProvider:
                return await pass_placement(settings, client, observer, node_uuid=self.identity.node_uuid)

            async def open_host() -> Host:
                driver = self._driver(opened)
                store = await self._store(opened, rpc)
                lease = await opened.enter_async_context(
                    held_lease(
                        store,
                        self._claimant(),
                        for_s=settings.store.lease,
                        # Which node is whose does not change because Nova cannot be asked.
                        lapses=not settings.store.is_nova_conductor,
                    )
                )
                beside.start_soon(lease.keep, vitals, name="lease")
                executor = assembly.make_executor(
                    settings, driver, store, claimant=self._claimant(), check_lease=lease.check, journal=journal
                )
                if settings.driver.handle_lifecycle_events:
                    beside.start_soon(watch.watch, executor, name="lifecycle")
                return self._host(executor, observer, report, watch, journal, once=once)

            async def report(result: RunResult) -> str | None:
                ending.result = result
                if not assembly.reports(settings):
                    return None
                # Until it is known better: what is cut off here was not told.
                ending.delivery = Delivery.IN_MEMORY
                ending.delivery = await _report(settings, result, outbox, transport)
                return ending.delivery.value

            start = Startup(pass_placement=at_gate, open_host=open_host, observer=observer)
            try:
                async with presenter.showing(progress):
                    brought = await _bring_back(start)
            except BringupError as error:
                progress.start_failed(chain_of(error))
                self.supervised.teller.tell_now()
                raise
            finally:
                if ending.result is not None:
                    log_result(ending.result, settings.resume.guests)
                    presenter.show_ending(ending, stays=not once and not ending.stopping)
            self.supervised.teller.back()
            if once:
                await tidy(brought, vitals, stays=False)
            else:
                # Ten thousand outcomes need not be kept for as long as the daemon lives.
                ending.result = None
                beside.start_soon(stand_by, brought, vitals, name="standby")
                store = brought.host.executor.store
                del brought
                self.source.staying.set()
                await _stay(settings, outbox, transport, assembly.keeping_in_step(settings, transport, store, vitals))

    async def _store(self, opened: AsyncExitStack, rpc: "Rpc | None") -> Store:
        store = await opened.enter_async_context(assembly.opened_store(self.settings, rpc=rpc))
        self.ending.hurries.append(partial(assembly.hurry, store))
        return store

    def _driver(self, opened: AsyncExitStack) -> Driver:
        driver = assembly.make_driver(self.settings, acting=True, capacity=self.source.capacity)
        opened.push_async_callback(assembly.close_driver, driver)
        return driver

    def _watch(self) -> LifecycleWatch:
        settings = self.settings
        return LifecycleWatch(
            settings.host.name,
            deadline_s=settings.limits.instance_deadline,
            vitals=self.supervised.vitals,
            owes_elsewhere=assembly.owes_elsewhere(settings),
        )

    def _claimant(self) -> Claimant:
        return Claimant(self.settings.host.name, self.identity.node_uuid)

    def _outbox(self) -> Outbox:
        attempting = partial(self.supervised.vitals.expecting, "the outbox", within_s=self.settings.scheduler.timeout)
        outbox = Outbox(self.settings.host.state_directory / "outbox", attempting=attempting)
        self.source.reports = outbox.pending
        return outbox

    def _host(
        self,
        executor: Executor,
        observer: Observer,
        report: Callable[[RunResult], Awaitable[str | None]],
        watch: LifecycleWatch,
        journal: Journal,
        *,
        once: bool,
    ) -> Host:
        settings = self.settings
        return Host(
            name=settings.host.name,
            run_id=str(uuid4()),
            boot_id=self.alive.boot.boot_id,
            executor=executor,
            observer=observer,
            limits=settings.limits,
            capacity=self.source.capacity,
            report=report,
            on_event=watch.take if settings.driver.handle_lifecycle_events else None,
            journal=journal,
            resuming=Resuming(settings.resume),
            guards=settings.guards,
            owes_elsewhere=assembly.owes_elsewhere(settings),
            on_filter_change=self.source.filter_changed,
            needs=assembly.needs_policy(settings, run_waits=once, on_wait=self.source.waits),
            accepted_guests=self.identity.accepted_guests,
            now=assembly.utc_now,
            alive=self.alive,
            defer_iptables_apply=settings.driver.defer_iptables_apply,
        )


async def _bring_back(start: Startup) -> Brought:
    """Bring the host back; where no daemon stays that could, wait for what is deferred."""
    brought = await init_host(start)
    return await wait_for_needs(brought) if brought.host.needs.run_waits else brought


async def _report(settings: Settings, result: RunResult, outbox: Outbox, transport: Transport | None) -> Delivery:
    # A quarter of the deadline: half of it may be the firewall's, and the disk wants some.
    timeout_s = min(settings.scheduler.timeout, settings.limits.shutdown_report_deadline / 4)
    return await report_outcomes(
        result, outbox=outbox, transport=transport, created_at=assembly.utc_now(), timeout_s=timeout_s
    )


async def _stay(
    settings: Settings,
    outbox: Outbox,
    transport: Transport | None,
    keep_in_step: Callable[[], Coroutine[Any, Any, NoReturn]] | None,
) -> None:
    """Stay until cancelled: events are handled in the background, the outbox drains here."""
    log.info("service.ready")
    if transport is None:
        await anyio.sleep_forever()
        return
    async with anyio.create_task_group() as group:
        if keep_in_step is not None:
            group.start_soon(keep_in_step, name="sync")
        scheduler = settings.scheduler
        await outbox.run_forever(transport, retries(initial_s=scheduler.retry_initial, max_s=scheduler.retry_max))


def log_result(result: RunResult, resume: str) -> None:
    """Write the canonical line of a run, and what it left off because of ``resume.guests``."""
    tell_left_off(result, resume)
    log.info(
        "run.ended",
        run_id=result.run_id,
        boot_id=result.boot_id,
        host=result.host,
        took_s=round(result.took_s, 3),
        unfinished=len(result.unfinished),
        error=result.error,
        **{kind.value: result.count(kind) for kind in Kind},
    )
