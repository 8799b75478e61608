"""Instances that wait for others, outside the slots: for as long as these start, and boot, but not for ever."""

import anyio
from anyio.abc import TaskGroup

from bringup.daemon.decisions.execution_order import Turns
from bringup.daemon.decisions.outcomes import Kind, Outcome
from bringup.daemon.decisions.rules import Facts
from bringup.daemon.logs import get_logger

log = get_logger()

NEVER_READY = (Kind.FAILED, Kind.HELD, Kind.DEFERRED, Kind.SUPERSEDED)
"""With these outcomes a guest will not be ready in this run, and waiting for it longer is of no use."""
SHOWN = 5


class Dependencies:
    """What the instances of a queue wait for.  Each dependency is waited for ``at_most_s``, from its slot on."""

    def __init__(self, turns: Turns[Facts], at_most_s: float, group: TaskGroup) -> None:
        """Store the queue, which keeps those that wait, and the tasks in which the waiting is bounded."""
        self._turns = turns
        self._at_most_s = at_most_s
        self._group = group
        self._freed = anyio.Event()

    def is_awaited(self, uuid: str) -> bool:
        """Check whether others wait for an instance."""
        return self._turns.is_awaited(uuid)

    async def freed(self) -> None:
        """Wait until an instance waits for nothing any more."""
        await self._freed.wait()

    async def unawaited(self, uuid: str) -> None:
        """Wait until nobody waits for an instance."""
        while self.is_awaited(uuid):
            await self.freed()

    def began(self, uuid: str) -> None:
        """Record that an instance has its slot: from now on others wait for it as long as they may."""
        if self._turns.is_awaited(uuid):
            self._group.start_soon(self._bound, uuid, name=f"awaited-{uuid}")

    async def _bound(self, uuid: str) -> None:
        await anyio.sleep(self._at_most_s)
        self.give_up(uuid, f"it was not ready within {self._at_most_s:g} s")

    def ended(self, outcome: Outcome) -> None:
        """Record that nothing more is done with an instance: those that wait for it are started."""
        if outcome.kind in NEVER_READY:
            self.give_up(outcome.uuid, f"its outcome is {outcome.kind.value}")
        else:
            self.ready(outcome.uuid)

    def ready(self, uuid: str) -> None:
        """Record that those that wait for an instance need not wait any longer."""
        if self._turns.is_awaited(uuid):
            self._turns.met(uuid)
            self._freed.set()
            self._freed = anyio.Event()

    def give_up(self, uuid: str, why: str) -> None:
        """Do not wait for an instance any longer, although it is not ready."""
        waiting = [facts.instance.uuid for facts in self._turns.waiting_for(uuid)]
        if waiting:
            count, first = len(waiting), waiting[:SHOWN]
            log.warning("order.dependency_not_ready", dependency=uuid, why=why, count=count, first=first)
            self.ready(uuid)
