"""Arranges a host with its records, its hypervisor and its guests; what a run of it does is written down.

Store and hypervisor are the real ones of the package.  Before each stands a :class:`Traced`: it writes the calls down,
in one order for both, and lets a call fail or hang before it has any effect.
"""

import inspect
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import anyio

from bringup.daemon.errors import RecordNotFound
from bringup.daemon.evacuated import SettingWitness, Witness
from bringup.daemon.executor import Executor
from bringup.daemon.host import Host, Limits, Start
from bringup.daemon.init_host import init_host
from bringup.daemon.instances import Instance, Migration
from bringup.daemon.operations import Shutdown
from bringup.daemon.outcomes import Outcome, RunResult
from bringup.daemon.progress import Progress
from bringup.daemon.records.base import Records
from bringup.daemon.states import PowerState, VmState
from bringup.daemon.store.base import Store
from bringup.daemon.store.sqlite import SqliteStore, opened
from bringup.drivers.base import Driver, EventListener
from bringup.drivers.simulated import Scenario, SimulatedDriver, SimulatedGuest
from support.drivers import uuid_of

T = TypeVar("T")

HOST = "compute-1"
ELSEWHERE = "compute-2"
LIMITS = Limits(concurrency=4, instance_deadline_s=30, host_deadline_s=30, last_word_deadline_s=30)
# A commit waits for the disk; hundreds of hosts are arranged, and none needs to survive a power loss.
IN_MEMORY = next((path for path in ("/dev/shm",) if Path(path).is_dir()), None)  # noqa: S108 - a folder of its own
# A look changes nothing; every other verb for a guest is one that touches it.
LOOKS = frozenset({"driver.get_info"})


@dataclass(frozen=True, slots=True)
class Called:
    """One call: ``driver.reboot``, ``store.save``, ``placement``, ``open_host`` or ``report``; "" is no instance."""

    name: str
    uuid: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


class Trace:
    """The calls of a run in their order, and what is to happen to some of them."""

    def __init__(self) -> None:
        self.calls: list[Called] = []
        self.before: Callable[[int], None] = lambda _number: None
        """Called with the number of a call, from 1, when it begins."""
        self.after: Callable[[int], None] = lambda _number: None
        """Called with the number of a call that has had its effect."""
        self._faults: dict[tuple[str, str | None], Exception | None] = {}

    def fail(self, name: str, error: Exception, *, uuid: str | None = None) -> None:
        """Let calls raise ``error``."""
        self._faults[name, uuid] = error

    def hang(self, name: str, *, uuid: str | None = None) -> None:
        """Let calls never end."""
        self._faults[name, uuid] = None

    def lift(self) -> None:
        """Forget faults and what was called."""
        self.calls.clear()
        self._faults.clear()
        self.before = self.after = lambda _number: None

    def names(self, uuid: str | None = None) -> list[str]:
        """Names of the calls, of all or of those for one instance."""
        return [call.name for call in self.calls if uuid in (None, call.uuid)]

    def touched(self) -> list[Called]:
        """Calls that change a guest, a record or a migration."""
        writes = {"store.save", "store.destroy", "store.save_migration"}
        return [
            call
            for call in self.calls
            if call.name in writes or (call.uuid and call.name.startswith("driver.") and call.name not in LOOKS)
        ]

    def enter(self, called: Called) -> bool:
        """Write a call down; raise where it is to fail, tell whether it is to hang."""
        self.calls.append(called)
        self.before(len(self.calls))
        for key in ((called.name, called.uuid), (called.name, None)):
            if key in self._faults:
                error = self._faults[key]
                if error is not None:
                    raise error
                return True
        return False

    async def around(self, called: Called, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call, in its place."""
        hangs = self.enter(called)
        number = len(self.calls)
        await anyio.lowlevel.checkpoint()
        if hangs:
            await anyio.sleep_forever()
        answer = await call()
        self.after(number)
        return answer


class Traced:
    """Stands before a driver or a store."""

    def __init__(self, inner: object, role: str, trace: Trace) -> None:
        self._inner = inner
        self._role = role
        self._trace = trace

    def __getattr__(self, verb: str) -> Any:
        method = getattr(self._inner, verb)
        name = f"{self._role}.{verb}"

        async def call(*args: Any, **kwargs: Any) -> Any:
            called = Called(name, _uuid(args), {**kwargs, "also": args[1:]} if args[1:] else kwargs)
            return await self._trace.around(called, lambda: method(*args, **kwargs))

        def call_at_once(*args: Any, **kwargs: Any) -> Any:
            self._trace.enter(Called(name))
            return method(*args, **kwargs)

        return call if inspect.iscoroutinefunction(method) else call_at_once


def _uuid(args: Sequence[Any]) -> str:
    if not args:
        return ""
    first = args[0]
    text = first if isinstance(first, str) else getattr(first, "uuid", "")
    return text if text.count("-") == 4 else ""


class Noted(Progress):
    """Progress that keeps its phases."""

    __slots__ = ("began_in_order", "phases")

    def __init__(self) -> None:
        super().__init__()
        self.phases: list[str] = []
        self.began_in_order: list[str] = []

    def phase_began(self, phase: str, detail: str = "") -> None:
        self.phases.append(phase)
        Progress.phase_began(self, phase, detail)

    def instance_began(self, uuid: str) -> None:
        self.began_in_order.append(uuid)
        Progress.instance_began(self, uuid)


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
class Arranged:
    """A host that can be brought back, as often as one likes."""

    driver: SimulatedDriver
    store: SqliteStore
    trace: Trace
    host: Host
    start: Start
    progress: Noted
    reports: list[RunResult]

    async def run(self) -> RunResult:
        """Bring the host back."""
        return await init_host(self.start)

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
        """Tell what a guest is doing; None where there is none."""
        found = self.driver.guests.get(uuid_of(number))
        return None if found is None else found.power_state


def outcome_of(result: RunResult, number: int) -> Outcome:
    """Find what came of the instance with a number."""
    return next(outcome for outcome in result.outcomes if outcome.uuid == uuid_of(number))


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
    witness: Witness | None = None,
    shutdown: Shutdown | None = None,
    latency: Mapping[Any, float] | None = None,
) -> AsyncIterator[Arranged]:
    """Arrange a host; without ``guests`` each instance has one whose power state is the record's."""
    if guests is None:
        guests = [
            SimulatedGuest(uuid=one.uuid, name=one.name, power_state=one.power_state)
            for one in instances
            if isinstance(one.power_state, PowerState)
        ]
    driver = SimulatedDriver(Scenario(guests=tuple(guests), latency=latency or {}), record=True)
    trace, progress, reports = Trace(), Noted(), list[RunResult]()

    async def report(result: RunResult) -> None:
        async def keep() -> None:
            reports.append(result)

        await trace.around(Called("report"), keep)

    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        async with opened(Path(folder) / "records.sqlite") as store:
            await store.import_records(Records(instances=tuple(instances), migrations=tuple(migrations)))
            executor = Executor(
                driver=cast("Driver", Traced(driver, "driver", trace)),
                store=cast("Store", Traced(store, "store", trace)),
                now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
                shutdown=shutdown or Shutdown(),
                witness=witness or SettingWitness("unknown"),
            )
            host = Host(
                name=HOST,
                run_id=uuid_of(9),
                boot_id=uuid_of(8),
                executor=executor,
                observer=progress,
                limits=limits,
                report=report,
                on_event=on_event,
                resume_guests=resume_guests,
                defer_iptables_apply=defer_iptables_apply,
            )
            start = Start(
                pass_placement=_step(trace, "placement", None),
                open_host=_step(trace, "open_host", host),
                observer=progress,
            )
            yield Arranged(
                driver=driver,
                store=store,
                trace=trace,
                host=host,
                start=start,
                progress=progress,
                reports=reports,
            )


def limits(**changes: float) -> Limits:
    """Change some of the limits."""
    return replace(LIMITS, **cast("dict[str, Any]", changes))


def _step(trace: Trace, name: str, answer: T) -> Callable[[], Awaitable[T]]:
    async def give() -> T:
        return answer

    return lambda: trace.around(Called(name), give)
