"""Replays one cell of the oracle with the real ``init_instance``, and says how it differs from what Nova did."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from bringup.daemon.decisions.actions import Action, CompletePartialDeletion, Delete, Reboot, Start, Stop, Unpause
from bringup.daemon.decisions.instances import Instance, Migration
from bringup.daemon.decisions.outcomes import Outcome
from bringup.daemon.decisions.policies import GuestShutdown
from bringup.daemon.decisions.rules import Facts
from bringup.daemon.decisions.states import PowerState, power_state, task_state, vm_state
from bringup.daemon.recovery.evacuated_guests import SettingWitness
from bringup.daemon.recovery.executor import Executor
from bringup.daemon.recovery.init_instance import init_instance
from bringup.daemon.recovery.start_claim import StartClaim
from bringup.daemon.recovery.working_copy import WorkingCopy
from bringup.daemon.storage.store.base import Claimant
from support.oracle_cells import GONE
from support.oracle_driver import TracingDriver
from support.oracle_store import TracingStore
from support.oracle_trace import Trace
from support.oracle_words import Row, same_calls, with_powers

UUID = "0a5d2a2e-5b1c-4bfb-9f6d-3d1f4a0c7e11"
HOSTS = {"own": "compute-1", "other": "compute-2"}
LIVE_MIGRATION = Migration(
    uuid="7c0b7f3e-8f35-4a6f-9d55-c2f0f9a8b1d2",
    instance_uuid=UUID,
    migration_type="live-migration",
    status="running",
    source_compute=HOSTS["own"],
    dest_compute=HOSTS["other"],
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionsRecorded(Executor):
    """Writes the manager's actions down in place of doing them: the shallow tables."""

    trace: Trace

    async def carry_out(self, hand: WorkingCopy, action: Action) -> PowerState | None:
        match action:
            case Reboot():
                self.trace.call(f"mgr.reboot_instance({action.reboot_type.value})")
            case Unpause():
                self.trace.call("mgr.unpause_instance")
            case Stop():
                self.trace.call("mgr.stop_instance(clean_shutdown=True)")
            case Start():
                self.trace.call("mgr.start_instance")
            case Delete():
                self.trace.call("mgr._delete_instance")
            case CompletePartialDeletion():
                self.trace.call("mgr._complete_partial_deletion")
            case _:
                return await Executor.carry_out(self, hand, action)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What came of one cell."""

    cell: Row
    before: Instance
    after: Instance
    deleted: bool
    calls: list[tuple[str, ...]]
    raised: list[tuple[str, Exception]]
    """The failing calls and what they raised."""
    outcome: Outcome
    logged: list[str] = field(default_factory=list)
    """Levels of the log lines, in order."""

    def powers(self) -> Mapping[str, int]:
        """What ``$drv`` stands for."""
        names = {"$drv": "drv_power", "$drv1": "drv_power1", "$drv2": "drv_power2"}
        return {name: _number(self.cell[column]) for name, column in names.items() if column in self.cell}

    def differences(self, expected: Sequence[str], db: Row) -> list[str]:
        """Return how calls, record and outcome differ from what Nova did."""
        found = []
        powers = self.powers()
        wanted = [with_powers(token, powers) for token in expected]
        if not same_calls(wanted, self.calls):
            found.append(f"calls: expected {wanted}\n              had {[words[-1] for words in self.calls]}")
        if (row := self._expected_record(db, powers)) != self._record():
            found.append(f"record: expected {row}, had {self._record()}")
        left = None if self.deleted else self.after
        if (self.outcome.instance, self.outcome.deleted) != (left, self.deleted):
            found.append(f"the outcome says {self.outcome}, the store has {left}")
        return found

    def _record(self) -> Row:
        return {"deleted": self.deleted, **_states(self.after)}

    def _expected_record(self, db: Row, powers: Mapping[str, int]) -> Row:
        row: Row = {"deleted": db.get("deleted", False)}
        for column, before in _states(self.before).items():
            value = db[column]
            row[column] = before if value == "=" else powers.get(str(value), value)
        return row


class Bench:
    """Replays cells one after the other; create it in :func:`bench`."""

    def __init__(self, events: list[str]) -> None:
        self._events = events

    async def replay(
        self, cell: Row, table: str, *, faults: Mapping[int, str] | None = None, live_migration: bool = False
    ) -> Replay:
        """Run ``init_instance`` on a cell of a ``shallow`` or ``deep`` table, with faults by number of call."""
        self._events.clear()
        trace = Trace(faults or {})
        before = instance_of(cell)
        store = TracingStore(trace, before)
        reads = [cell["drv_power"]] if table == "deep" else [cell["drv_power1"], cell["drv_power2"]]
        driver = TracingDriver(trace, [_power(read) for read in reads], follows=table == "deep")
        tools: dict[str, Any] = {
            "driver": driver,
            "store": store,
            "now": lambda: datetime(2026, 1, 1, tzinfo=UTC),
            "shutdown": GuestShutdown(),
            "witness": SettingWitness("unknown"),
            "start_claim": StartClaim(store=store, driver=driver, claimant=Claimant(HOSTS["own"], "node-1")),
        }
        facts = Facts(
            instance=before,
            host=HOSTS["own"],
            resume_guests=cell["resume"],
            live_migration=LIVE_MIGRATION if live_migration else None,
        )
        executor = Executor(**tools) if table == "deep" else ActionsRecorded(trace=trace, **tools)
        outcome = await init_instance(facts, executor=executor, observer=lambda _event: None, deadline_s=60)
        return Replay(
            cell=cell,
            before=before,
            after=store.record,
            deleted=store.deleted,
            calls=trace.calls,
            raised=trace.raised,
            outcome=outcome,
            logged=list(self._events),
        )


@contextmanager
def bench() -> Iterator[Bench]:
    """Yield a bench; while it stands, log lines go to it."""
    events: list[str] = []

    def note(_logger: object, method: str, _event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        events.append(method)
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[note], wrapper_class=structlog.make_filtering_bound_logger("debug"))
    try:
        yield Bench(events)
    finally:
        structlog.configure(**before)


def instance_of(cell: Row) -> Instance:
    """Build the record that a cell describes."""
    old_vm_state = cell.get("old_vm_state")
    return Instance(
        uuid=UUID,
        host=HOSTS[cell["host"]],
        vm_state=vm_state(cell["vm_state"]),
        task_state=task_state(cell["task_state"]),
        power_state=power_state(cell["db_power"]),
        system_metadata={} if old_vm_state is None else {"old_vm_state": old_vm_state},
        shutdown_terminate=cell.get("shutdown_terminate", False),
    )


def _states(instance: Instance) -> Row:
    parts = {c: getattr(instance, c) for c in ("vm_state", "task_state", "power_state")}
    return {column: None if state is None else state.value for column, state in parts.items()}


def _power(read: int | str) -> PowerState | None:
    return None if read == GONE else PowerState(read)


def _number(read: int | str) -> int:
    return 0 if isinstance(read, str) else read
