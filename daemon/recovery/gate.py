"""Gate before the slots: the next instance passes it when it waits for nothing, and no guest goes before it."""

from collections.abc import Mapping

from bringup.daemon.decisions.execution_order import Turns
from bringup.daemon.decisions.rules import Facts
from bringup.daemon.recovery.boots import Boots
from bringup.daemon.recovery.dependencies import Dependencies


class PriorityGate:
    """Gate of one queue.

    While instances of a higher priority are started and boot, others pass it one by one, and only where the host has
    something to spare.  With a fixed pace nothing is known of that, and the priority is no more than an order.
    """

    def __init__(
        self, turns: Turns[Facts], dependencies: Dependencies, priority: Mapping[str, int], boots: Boots | None
    ) -> None:
        """Store the queue and what keeps its instances waiting."""
        self._turns = turns
        self._dependencies = dependencies
        self._priority = priority
        self._boots = boots

    async def opened(self) -> None:
        """Wait until the next instance may have a slot."""
        while True:
            while not self._turns.can_take:
                await self._dependencies.freed()
            if self._boots is None or not self._is_preceded(self._boots) or self._boots.may_start_beside():
                return
            await self._boots.changed()

    def left(self, facts: Facts) -> None:
        """Record that an instance has left its slot."""
        self._turns.left(facts)
        if self._boots is not None:
            self._boots.left(facts.instance.uuid)

    def _is_preceded(self, boots: Boots) -> bool:
        """Check whether instances in slots go before the next one."""
        if not self._priority:
            return False
        own, uncounted = self._priority_of(self._turns.first), boots.uncounted
        higher = (facts for facts in self._turns.in_slots if self._priority_of(facts) > own)
        return any(facts.instance.uuid not in uncounted for facts in higher)

    def _priority_of(self, facts: Facts) -> int:
        return self._priority.get(facts.instance.uuid, 0)
