"""Calls of the simulated host: always counted, and recorded on request."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anyio

from bringup.drivers.simulated.verbs import Verb


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a verb; ``uuid`` is empty for a verb of the host, ``order`` counts all calls from 1."""

    order: int
    verb: Verb
    uuid: str
    arguments: Mapping[str, Any]


class Calls:
    """The calls of one driver."""

    def __init__(self, *, record: bool) -> None:
        """Record each call with ``record``, or else only count: a call is large, a host has many."""
        self.recorded: list[Call] = []
        self._record = record
        self._order = 0
        self._counts: dict[Verb, Counter[str]] = defaultdict(Counter)
        self._awaited: dict[tuple[Verb, str | None], anyio.Event] = {}

    def enter(self, verb: Verb, uuid: str, arguments: Mapping[str, Any]) -> int:
        """Count a call, wake its waiters, and return the number of this call of the verb for the guest, from 1."""
        counts = self._counts[verb]
        counts[uuid] = nth = counts[uuid] + 1
        self._order += 1
        if self._record:
            self.recorded.append(Call(self._order, verb, uuid, arguments))
        if self._awaited:
            for key in ((verb, uuid), (verb, None)):
                if key in self._awaited:
                    self._awaited.pop(key).set()
        return nth

    def restore_count(self, verb: Verb, uuid: str, count: int) -> None:
        """Count as if the verb had been called ``count`` times."""
        self._counts[verb][uuid] = count

    def count(self, verb: Verb, uuid: str | None = None) -> int:
        """Return how often a verb was entered, for one guest or (None) for all."""
        counts = self._counts.get(verb, Counter())
        return counts.total() if uuid is None else counts[uuid]

    async def entered(self, verb: Verb, uuid: str | None = None, *, times: int = 1) -> None:
        """Wait until a verb has been entered ``times`` times; earlier calls count."""
        while self.count(verb, uuid) < times:
            event = self._awaited.setdefault((verb, uuid), anyio.Event())
            await event.wait()
