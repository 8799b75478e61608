"""How many connections one listener keeps, for how long, and which one goes when another comes.

A connection that does not get on is closed in the end, and at once when its place is needed: who connects and says
nothing costs those who do nothing.  What is being answered keeps its place for a while, and a stream of events and an
operator's word keep theirs: there are few of both, and each has its own limits.
"""

import enum
import time
from collections.abc import Callable, Mapping
from math import inf
from typing import Final, Protocol

import anyio

CONNECTIONS: Final = 256
"""Places of one listener."""
HEAD_S: Final = 5.0
"""Within this time a whole request head has come; the same for a body that nobody waits for any more."""
KEEP_ALIVE_S: Final = 30.0
"""How long a connection may wait for its next request."""
ANSWER_S: Final = 60.0
"""Within this time an answer is made, sent and taken, unless it is a stream of events."""
CLOSING_S: Final = 5.0
"""Within this time what is left of the last answer is taken."""
YIELD_S: Final = 5.0
"""An answer that takes longer gives its place away where another connection needs one."""
LOOK_EVERY_S: Final = 1.0


class Doing(enum.Enum):
    """What a connection is about."""

    HEAD = "head"
    """A request is to come, or has come in part."""
    IDLE = "idle"
    """The last one is answered."""
    ANSWERING = "answering"
    KEPT = "kept"
    """The same, of an answer that has its own limits."""
    CLOSING = "closing"
    """The last answer is being taken."""


AT_MOST_S: Final[Mapping[Doing, float]] = {
    Doing.HEAD: HEAD_S,
    Doing.IDLE: KEEP_ALIVE_S,
    Doing.ANSWERING: ANSWER_S,
    Doing.CLOSING: CLOSING_S,
}
"""For how long each may go on; :attr:`Doing.KEPT` may for ever."""


class Held(Protocol):
    """A connection that has a place."""

    def doing(self) -> Doing:
        """Tell what it is about."""

    def abort(self) -> None:
        """Close it now, whatever is on its way."""


class Places:
    """The places of one listener; the connection that has not got on for longest is the first."""

    def __init__(
        self,
        most: int = CONNECTIONS,
        *,
        at_most_s: Mapping[Doing, float] = AT_MOST_S,
        look_every_s: float = LOOK_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Have ``most`` of them, on a clock of monotonic seconds."""
        self._most = most
        self._at_most_s = at_most_s
        self._look_every_s = look_every_s
        self._clock = clock
        self._since: dict[Held, float] = {}
        self._changed = anyio.Event()
        self.closed = 0
        """Connections that were closed here: too slow, or in the way of others."""

    def __len__(self) -> int:
        """Tell how many are taken."""
        return len(self._since)

    def gets_on(self, held: Held) -> None:
        """Give it a place, or note that it has got on."""
        self._since.pop(held, None)
        self._since[held] = self._clock()
        self._wake()

    def left(self, held: Held) -> None:
        """Take its place back."""
        self._since.pop(held, None)
        self._wake()

    def make_room(self) -> bool:
        """Make sure that there is a place; False: each is taken by somebody who is being answered."""
        if len(self._since) < self._most:
            return True
        victim = self._first(Doing.HEAD, Doing.IDLE, Doing.CLOSING) or self._slow_answer()
        if victim is None:
            return False
        self._close(victim)
        return True

    async def taken(self) -> None:
        """Wait until somebody has a place."""
        while not self._since:
            await self._changed.wait()

    async def changed(self) -> None:
        """Wait until somebody has got on or left, for a while at most."""
        with anyio.move_on_after(self._look_every_s):
            await self._changed.wait()

    async def watch(self) -> None:
        """Close who is too slow, until cancelled; nothing is looked at while nobody is connected."""
        while True:
            await self.taken()
            await anyio.sleep(self._look_every_s)
            self.look()

    def look(self) -> None:
        """Close who is too slow."""
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
        # Its place is free at once, its descriptor in the next round of the event loop.
        self.left(held)
        held.abort()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
