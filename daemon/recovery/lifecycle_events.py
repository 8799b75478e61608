"""Lifecycle events keep power states true, while the host comes back and after.

Events of an instance that is still to be settled wait for it.  Those of one instance are handled in their order, those
of several at once.  What is being handled when the watch ends is finished, within a bound: cut off in its middle it
would leave a task state that nobody works on.
"""

from collections import deque
from contextlib import suppress
from math import inf

import anyio
import structlog

from bringup.daemon import closing
from bringup.daemon.decisions.from_record import EVACUATION_STATUSES
from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import Did, Kind, Outcome
from bringup.daemon.decisions.rules import Facts
from bringup.daemon.decisions.run_events import InstanceEnded, RunEnded, RunEvent
from bringup.daemon.decisions.states import PowerState, VmState
from bringup.daemon.decisions.table_order import LIFECYCLE_TABLES
from bringup.daemon.errors import RecordNotFound
from bringup.daemon.liveness import Vitals
from bringup.daemon.logs import get_logger
from bringup.daemon.recovery.executor import Executor
from bringup.daemon.recovery.init_instance import DEADLINE_EXCEEDED, init_instance
from bringup.daemon.recovery.load_records import latest
from bringup.drivers.base import POWER_AFTER, LifecycleEvent

log = get_logger()

KEPT_AN_INSTANCE = 16
"""How many waiting events are kept of one instance; its power state is read anyway, so the oldest may go."""
AT_ONCE = 4
FINISH_S = closing.EVENTS_S
"""How long what is being handled has to be finished when the watch ends; a guest that ignores ACPI takes longer."""


class LifecycleWatch:
    """Queue of lifecycle events, held back until their instance is settled."""

    def __init__(
        self,
        host: str,
        *,
        deadline_s: float,
        finish_s: float = FINISH_S,
        vitals: Vitals | None = None,
        owes_elsewhere: bool = False,
    ) -> None:
        """Watch the instances of ``host``; an event is given up after ``deadline_s``, ``finish_s`` after the end.

        ``owes_elsewhere``: ports and volumes of records are other services', which a deletion must tell.
        """
        self._vitals = vitals or Vitals()
        self._host = host
        self._owes_elsewhere = owes_elsewhere
        self._deadline_s = deadline_s
        self._finish_s = finish_s
        self._ending = False
        self._under_way: set[anyio.CancelScope] = set()
        self._holding = True
        self._settled: set[str] = set()
        self._waiting: dict[str, deque[LifecycleEvent]] = {}
        self._busy: set[str] = set()
        self._send, self._receive = anyio.create_memory_object_stream[str](inf)

    def take(self, event: LifecycleEvent) -> None:
        """Queue an event; called by the driver, in the event loop."""
        self._waiting.setdefault(event.uuid, deque(maxlen=KEPT_AN_INSTANCE)).append(event)
        self._wake(event.uuid)

    def observe(self, event: RunEvent) -> None:
        """Release the lifecycle events of what a run has settled."""
        match event:
            case InstanceEnded(outcome):
                if outcome.did is Did.STARTED and is_running(outcome.instance):
                    self._drop_start(outcome.uuid)
                self.settled(outcome.uuid)
            case RunEnded():
                self.all_settled()

    def _drop_start(self, uuid: str) -> None:
        """Drop the events of a start by the run itself, whose record says so already: each costs as much as a start."""
        events = self._waiting.get(uuid)
        if events and all(POWER_AFTER[event.transition] is PowerState.RUNNING for event in events):
            events.clear()

    def settled(self, uuid: str) -> None:
        """Release the events of an instance: it is settled."""
        self._settled.add(uuid)
        self._wake(uuid)

    def all_settled(self) -> None:
        """Release all events from now on."""
        self._holding = False
        self._settled.clear()
        for uuid in list(self._waiting):
            self._wake(uuid)

    def _wake(self, uuid: str) -> None:
        held = self._holding and uuid not in self._settled
        if uuid in self._waiting and uuid not in self._busy and not held:
            self._busy.add(uuid)
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # nobody watches any more
                self._send.send_nowait(uuid)

    def close(self) -> None:
        """Drop what waits: events are handled no more."""
        self._send.close()
        self._receive.close()

    async def watch(self, executor: Executor) -> None:
        """Handle events until cancelled."""
        async with self._send, self._receive, anyio.create_task_group() as group:
            for number in range(AT_ONCE):
                group.start_soon(self._work, executor, name=f"lifecycle-{number}")
            try:
                await anyio.sleep_forever()
            finally:
                self._ending = True
                for scope in self._under_way:
                    scope.deadline = anyio.current_time() + self._finish_s

    async def _work(self, executor: Executor) -> None:
        async for uuid in self._receive:
            events = self._waiting.get(uuid)
            if events and not self._ending:
                await self._handle_next(uuid, events, executor)
            if self._ending or not events:
                self._waiting.pop(uuid, None)
            self._busy.discard(uuid)
            # One event a turn: a guest that never ceases to make some waits behind the others for its next one.
            self._wake(uuid)

    async def _handle_next(self, uuid: str, events: deque[LifecycleEvent], executor: Executor) -> None:
        event = events.popleft()
        with (
            structlog.contextvars.bound_contextvars(instance=uuid, transition=event.transition.value),
            self._vitals.expecting(f"the lifecycle event of {uuid}", within_s=2 * self._deadline_s),
        ):
            took_too_long = await self._to_its_end(event, executor)
        while took_too_long and len(events) > 1:
            # A guest that hangs must not keep a slot from others: its last event says enough.
            events.popleft()

    async def _to_its_end(self, event: LifecycleEvent, executor: Executor) -> bool:
        """Handle an event, also where the watch ends meanwhile; tell whether its deadline passed."""
        with anyio.CancelScope(shield=True) as scope:
            self._under_way.add(scope)
            try:
                return await self._handle(event, executor)
            finally:
                self._under_way.discard(scope)
        log.warning("lifecycle.interrupted", after_s=self._finish_s)
        return True

    async def _handle(self, event: LifecycleEvent, executor: Executor) -> bool:
        """Handle an event; tell whether its deadline passed."""
        try:
            with anyio.fail_after(self._deadline_s):
                instance = await executor.store.get_instance(event.uuid)
                migrations = await executor.store.load_migrations(self._host, EVACUATION_STATUSES)
        except RecordNotFound:
            log.debug("lifecycle.no_record")
            return False
        except Exception as error:  # noqa: BLE001 - one record that cannot be read must not end the watch of all
            log.warning("lifecycle.record_unreadable", error=f"{type(error).__name__}: {error}")
            return isinstance(error, TimeoutError)
        outcome = await init_instance(
            Facts(
                instance=instance,
                host=self._host,
                transition=event.transition,
                owes_elsewhere=self._owes_elsewhere,
                evacuation=latest(migrations, "evacuation", EVACUATION_STATUSES).get(event.uuid),
            ),
            executor=executor,
            observer=lambda _event: None,
            deadline_s=self._deadline_s,
            tables=LIFECYCLE_TABLES,
        )
        _log(outcome)
        return outcome.problem is not None and outcome.problem.error == DEADLINE_EXCEEDED


def is_running(instance: Instance | None) -> bool:
    """Check whether a record says that its guest runs and that nothing is being done to it."""
    return instance is not None and (instance.vm_state, instance.power_state, instance.task_state) == (
        VmState.ACTIVE,
        PowerState.RUNNING,
        None,
    )


def _log(outcome: Outcome) -> None:
    because, did = list(outcome.because), outcome.did.value
    if outcome.problem is not None:
        problem = outcome.problem
        log.warning("lifecycle.failed", did=did, because=because, error=problem.error, message=problem.message)
    elif outcome.kind is Kind.SKIPPED or because == ["agrees"]:
        log.debug("lifecycle.nothing_to_do", because=because)
    elif "runs_though_stopped" in because:
        log.warning("lifecycle.stopped_again", did=did, because=because)
    else:
        log.info("lifecycle.handled", did=did, because=because)
