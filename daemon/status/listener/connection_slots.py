"""Slots for the connections of one listener: how many, for how long, and which one is closed for another.

An idle connection is closed after a while, and at once when its slot is needed: silent clients do not cost the others
anything.  An answer keeps its slot for a while; a stream of events and an operator request keep theirs: there are few
of both, and each has its own limits.
"""

import enum
import time
from collections.abc import Callable, Mapping
from math import inf
from typing import Final, Protocol

import anyio

CONNECTIONS: Final = 256
"""Slots of one listener."""
HEAD_S: Final = 5.0
"""Within this time a whole request head has arrived; the same for a body that is not awaited any more."""
KEEP_ALIVE_S: Final = 30.0
"""How long a connection may wait for its next request."""
ANSWER_S: Final = 60.0
"""Within this time an answer is made, sent and read, unless it is a stream of events."""
CLOSING_S: Final = 5.0
"""Within this time the rest of the last answer is read."""
YIELD_S: Final = 5.0
"""An answer that takes longer loses its slot to another connection that needs one."""
LOOK_EVERY_S: Final = 1.0


class Doing(enum.Enum):
    """What a connection does."""

    HEAD = "head"
    """It waits for a request, or for the rest of one."""
    IDLE = "idle"
    """The last request is answered."""
    ANSWERING = "answering"
    KEPT = "kept"
    """The same, of an answer that has its own limits."""
    CLOSING = "closing"
    """The last answer is being read."""


AT_MOST_S: Final[Mapping[Doing, float]] = {
    Doing.HEAD: HEAD_S,
    Doing.IDLE: KEEP_ALIVE_S,
    Doing.ANSWERING: ANSWER_S,
    Doing.CLOSING: CLOSING_S,
}
"""The limit of each; :attr:`Doing.KEPT` has none."""


class Held(Protocol):
    """A connection that has a slot."""

    def doing(self) -> Doing:
        """Return what it does."""

    def abort(self) -> None:
        """Close it now, whatever is being sent."""


class Places:
    """Slots of one listener; the connection that is idle for longest is the first."""

    def __init__(
        self,
        most: int = CONNECTIONS,
        *,
        at_most_s: Mapping[Doing, float] = AT_MOST_S,
        look_every_s: float = LOOK_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create ``most`` slots, with a clock of monotonic seconds."""
        self._most = most
        self._at_most_s = at_most_s
        self._look_every_s = look_every_s
        self._clock = clock
        self._since: dict[Held, float] = {}
        self._changed = anyio.Event()
        self.closed = 0
        """Connections that were closed here: too slow, or for another one."""

    def __len__(self) -> int:
        """Return how many are used."""
        return len(self._since)

    def gets_on(self, held: Held) -> None:
        """Store that a connection has a slot, or has made progress."""
        self._since.pop(held, None)
        self._since[held] = self._clock()
        self._wake()

    def left(self, held: Held) -> None:
        """Release its slot."""
        self._since.pop(held, None)
        self._wake()

    def make_room(self) -> bool:
        """Ensure a free slot; return False if each has an answer in progress."""
        if len(self._since) < self._most:
            return True
        victim = self._first(Doing.HEAD, Doing.IDLE, Doing.CLOSING) or self._slow_answer()
        if victim is None:
            return False
        self._close(victim)
        return True

    async def taken(self) -> None:
        """Wait until a connection has a slot."""
        while not self._since:
            await self._changed.wait()

    async def changed(self) -> None:
        """Wait until a connection has made progress or ended, for a while at most."""
        with anyio.move_on_after(self._look_every_s):
            await self._changed.wait()

    async def watch(self) -> None:
        """Close slow connections, until cancelled; idle while there is no connection."""
        while True:
            await self.taken()
            await anyio.sleep(self._look_every_s)
            self.look()

    def look(self) -> None:
        """Close slow connections."""
        now = self._clock()
        slow = [held for held, since in self._since.items() if now - since > self._at_most_s.get(held.doing(), inf)]
        for held in slow:
            self._close(held)

    def _first(self, *doing: Doing) -> Held | None:
        return next((held for held in self._since if held.doing() in doing), None)

    def _slow_answer(self) -> Held | None:
        found = self._first(Doing.ANSWERING)
        return found if found is not None and self._clock() - self._since[found] > YIELD_S else None

    def _close(self, held: Held) -> None:
        self.closed += 1
        # Its slot is free at once, its descriptor in the next round of the event loop.
        self.left(held)
        held.abort()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
