"""Arranges a host with its records, its hypervisor and its guests; what a run of it does is written down.

Store and hypervisor are the real ones of the package, with a :class:`support.tracing.Traced` before each.
"""

import atexit
import functools
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import anyio

from bringup.daemon.decisions.instances import Instance, Migration
from bringup.daemon.decisions.outcomes import Outcome, RunResult
from bringup.daemon.decisions.pace import PaceController
from bringup.daemon.decisions.policies import (
    UNGUARDED,
    Guards,
    GuestShutdown,
    Limits,
    PacePolicy,
    ResumePolicy,
    VerifyPolicy,
)
from bringup.daemon.decisions.resume_policy import Resuming
from bringup.daemon.decisions.run_events import InstanceBegan, Observer, RunEvent
from bringup.daemon.decisions.states import PowerState, VmState
from bringup.daemon.errors import RecordNotFound
from bringup.daemon.recovery.boots import Boots
from bringup.daemon.recovery.context import Host, NeedsPolicy, Startup
from bringup.daemon.recovery.evacuated_guests import DiskKeeper, SettingWitness, Witness
from bringup.daemon.recovery.executor import Executor
from bringup.daemon.recovery.init_host import init_host
from bringup.daemon.recovery.start_claim import StartClaim
from bringup.daemon.recovery.verification import Verification
from bringup.daemon.status.observers import fan_out
from bringup.daemon.status.progress import Progress
from bringup.daemon.storage.journal import NO_JOURNAL, Journal
from bringup.daemon.storage.store import sqlite
from bringup.daemon.storage.store.base import Claimant, Records, Store
from bringup.daemon.storage.store.sql import Database, SqlStore, open_store
from bringup.daemon.tasks import background
from bringup.drivers.base import Driver, EventListener
from bringup.drivers.capacity import Capacity
from bringup.drivers.simulated import Scenario, SimulatedDriver, SimulatedGuest
from support.drivers import uuid_of
from support.stores import empty_store
from support.tracing import Called, Trace, Traced

T = TypeVar("T")

HOST = "compute-1"
ELSEWHERE = "compute-2"
CLAIMANT = Claimant(HOST, "node-1")
LIMITS = Limits(concurrency=4, instance_deadline=30, host_deadline=30, shutdown_report_deadline=30)
# A commit waits for the disk; hundreds of hosts are arranged, and none needs to survive a power loss.
IN_MEMORY = next((path for path in ("/dev/shm",) if Path(path).is_dir()), None)  # noqa: S108 - a folder of its own


class OrderedProgress(Progress):
    """Progress that keeps the order of instances."""

    __slots__ = ("began_in_order",)

    def __init__(self) -> None:
        super().__init__()
        self.began_in_order: list[str] = []

    def observe(self, event: RunEvent) -> None:
        if isinstance(event, InstanceBegan):
            self.began_in_order.append(event.uuid)
        Progress.observe(self, event)


def instance(number: int, **columns: Any) -> Instance:
    """Make the record of the instance with a number: active, running, of this host, unless told otherwise."""
    known: dict[str, Any] = {
        "uuid": uuid_of(number),
        "host": HOST,
        "vm_state": VmState.ACTIVE,
        "power_state": PowerState.RUNNING,
        "name": f"instance-{number:08x}",
    }
    return Instance(**(known | columns))


def guest(number: int, power_state: PowerState = PowerState.RUNNING, **facts: Any) -> SimulatedGuest:
    """Make the guest with a number."""
    return SimulatedGuest(uuid=uuid_of(number), name=f"instance-{number:08x}", power_state=power_state, **facts)


def evacuation(number: int, status: str = "done", *, at: int = 1) -> Migration:
    """Make the evacuation from this host of the instance with a number; ``at`` tells several of one apart."""
    return Migration(
        uuid=uuid_of(1_000_000 * at + number),
        instance_uuid=uuid_of(number),
        migration_type="evacuation",
        status=status,
        source_compute=HOST,
        dest_compute=ELSEWHERE,
    )


@dataclass(slots=True, kw_only=True)
class ArrangedHost:
    """A host that can be brought back, as often as one likes."""

    driver: SimulatedDriver
    store: SqlStore
    trace: Trace
    host: Host
    start: Startup
    progress: OrderedProgress
    reports: list[RunResult]

    async def run(self) -> RunResult:
        """Bring the host back."""
        return (await init_host(self.start)).result

    async def record(self, number: int) -> Instance | None:
        """Read a record; None where it was deleted."""
        try:
            return await self.store.get_instance(uuid_of(number))
        except RecordNotFound:
            return None

    async def evacuation_status(self, number: int) -> str:
        """Read the status of an evacuation."""
        known = ["accepted", "pre-migrating", "done", "completed"]
        migrations = await self.store.load_migrations(HOST, known)
        return next(one.status for one in migrations if one.instance_uuid == uuid_of(number))

    def power(self, number: int) -> PowerState | None:
        """Return the power state of a guest; None where there is none."""
        found = self.driver.guests.get(uuid_of(number))
        return None if found is None else found.power_state


def now() -> datetime:
    """Return the time that it always is here."""
    return datetime(2026, 1, 1, tzinfo=UTC)


def executor_of(
    driver: Driver,
    store: Store,
    *,
    shutdown: GuestShutdown | None = None,
    witness: Witness | None = None,
    disk_keeper: DiskKeeper | None = None,
) -> Executor:
    """Make what the actions of this host are carried out with."""
    return Executor(
        driver=driver,
        store=store,
        now=now,
        shutdown=shutdown or GuestShutdown(),
        witness=witness or SettingWitness("unknown"),
        start_claim=StartClaim(store=store, driver=driver, claimant=CLAIMANT),
        disk_keeper=disk_keeper,
    )


def host_of(executor: Executor, **parts: Any) -> Host:
    """Build a host; what is not given is as in most tests."""

    async def no_report(_result: RunResult) -> str | None:
        return None

    limits = parts.get("limits", LIMITS)
    usual: dict[str, Any] = {"name": HOST, "run_id": uuid_of(9), "boot_id": uuid_of(8), "limits": limits}
    usual |= {"capacity": Capacity(limits.concurrency), "observer": Progress().observe, "report": no_report}
    return Host(executor=executor, **usual | parts)


def start_of(open_host: Callable[[], Awaitable[Host]]) -> Startup:
    """Build the start of a daemon that has no Placement."""

    async def no_placement() -> None:
        await anyio.lowlevel.checkpoint()

    return Startup(pass_placement=no_placement, open_host=open_host, observer=Progress().observe)


def outcome_of(result: RunResult, number: int) -> Outcome:
    """Find what came of the instance with a number."""
    return next(outcome for outcome in result.outcomes if outcome.uuid == uuid_of(number))


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="bringup-hosts-", dir=IN_MEMORY))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


_idle: list[Database] = []
_numbers = itertools.count(1)


def _new_database() -> Database:
    database = sqlite.open_database(_folder() / f"records-{next(_numbers)}.sqlite")
    database.engine.dispose()
    return database


@asynccontextmanager
async def _a_store() -> AsyncIterator[SqlStore]:
    """Open a store without records, in a new file of a database that was used before, where there is one.

    An engine compiles each statement once; to do that for each host takes as long as most runs of a host.
    """
    database = _idle.pop() if _idle else _new_database()
    for suffix in ("", "-wal", "-shm"):
        Path(database.name + suffix).unlink(missing_ok=True)
    Path(database.name).write_bytes(empty_store())
    async with open_store(lambda: database) as store:
        yield store
    # After a failure nobody knows what is still in progress in it.
    _idle.append(database)


def boots_of(
    executor: Executor, pace: PacePolicy, capacity: Capacity, observer: Observer, journal: Journal, blind_s: float
) -> Boots:
    """Build what follows the guests that boot; two may at first."""
    return Boots(
        executor.driver,
        pace,
        capacity,
        PaceController(ceiling=capacity.number, start=2),
        observer=observer,
        journal=journal,
        read_pressure=lambda: None,
        slow_s=0.2,
        blind_s=blind_s,
    )


@asynccontextmanager
async def arranged(  # noqa: PLR0913 - a host has many parts
    instances: Sequence[Instance] = (),
    *,
    guests: Sequence[SimulatedGuest] | None = None,
    migrations: Sequence[Migration] = (),
    limits: Limits = LIMITS,
    on_event: EventListener | None = None,
    defer_iptables_apply: bool = False,
    resume_guests: bool = False,
    resuming: Resuming | None = None,
    guards: Guards | None = None,
    journal: Journal = NO_JOURNAL,
    accepted_guests: frozenset[str] = frozenset(),
    witness: Witness | None = None,
    shutdown: GuestShutdown | None = None,
    latency: Mapping[Any, float] | None = None,
    observer: Observer | None = None,
    slots: int | None = None,
    needs: NeedsPolicy | None = None,
    pace: PacePolicy | None = None,
    follows: bool = False,
    verify_s: float = 0.0,
    blind_s: float = 300.0,
    owes_elsewhere: bool = False,
) -> AsyncIterator[ArrangedHost]:
    """Arrange a host; without ``guests`` each instance has one whose power state is the record's.

    ``follows``: guests that boot are followed until they are ready, as the daemon does with libvirt, and then watched
    for ``verify_s``; where they cannot be read for ``blind_s`` they are not any more.
    """
    if guests is None:
        guests = [
            SimulatedGuest(uuid=one.uuid, name=one.name, power_state=one.power_state)
            for one in instances
            if isinstance(one.power_state, PowerState)
        ]
    driver = SimulatedDriver(Scenario(guests=tuple(guests), latency=latency or {}), record=True)
    trace, progress, reports = Trace(), OrderedProgress(), list[RunResult]()

    async def report(result: RunResult) -> str | None:
        async def keep() -> str:
            reports.append(result)
            return "acknowledged"

        return await trace.around(Called("report"), keep)

    async with _a_store() as store, background() as beside:
        await store.import_records(Records(instances=tuple(instances), migrations=tuple(migrations)))
        await store.take_lease(CLAIMANT, for_s=3600)
        executor = executor_of(
            cast("Driver", Traced(driver, "driver", trace)),
            cast("Store", Traced(store, "store", trace)),
            shutdown=shutdown,
            witness=witness,
        )
        capacity = Capacity(slots or limits.concurrency, is_adaptive=limits.pace == "adaptive")
        observe = observer or progress.observe
        boots, verification, to_boots = None, None, observe
        if verify_s:
            verification = Verification(
                executor.driver, VerifyPolicy(within=verify_s), observer=observe, journal=journal, every_s=0.05
            )
            to_boots = fan_out(observe, verification.observe)
            await beside.start(verification.run)
        if follows:
            boots = boots_of(executor, pace or PacePolicy(), capacity, to_boots, journal, blind_s)
            await beside.start(boots.run)
        host = host_of(
            executor,
            observer=observe if boots is None else fan_out(observe, boots.observe),
            limits=limits,
            capacity=capacity,
            boots=boots,
            verification=verification,
            report=report,
            on_event=on_event,
            resuming=resuming or Resuming(ResumePolicy(guests="on_every_start" if resume_guests else "never")),
            guards=guards or UNGUARDED,
            journal=journal,
            needs=needs or NeedsPolicy(),
            pace=pace or PacePolicy(),
            owes_elsewhere=owes_elsewhere,
            accepted_guests=accepted_guests,
            defer_iptables_apply=defer_iptables_apply,
        )
        start = Startup(
            pass_placement=_step(trace, "placement", None),
            open_host=_step(trace, "open_host", host),
            observer=observer or progress.observe,
        )
        yield ArrangedHost(
            driver=driver,
            store=store,
            trace=trace,
            host=host,
            start=start,
            progress=progress,
            reports=reports,
        )


def limits(**changes: Any) -> Limits:
    """Change some of the limits."""
    return replace(LIMITS, **changes)


def _step(trace: Trace, name: str, answer: T) -> Callable[[], Awaitable[T]]:
    async def give() -> T:
        return answer

    return lambda: trace.around(Called(name), give)
