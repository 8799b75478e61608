"""Recent events, for clients: one ring of events for all of them, so that a slow one costs nothing.

A client that falls behind the ring is disconnected.  One that returns with the id of its last event continues from
there, or has to request everything again (``reset``).  See section 9.2 of the WHATWG HTML standard.
"""

import json
import re
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

import anyio

NUMBER = re.compile(r"[0-9]{1,18}")
KEEP = 8192
"""Events that are kept: a run of a thousand instances, or the last seconds of a larger one."""
GATHER_S = 0.1
"""Events of this time are sent together."""
BEAT_S = 1.0
"""How often a client receives the progress while instances are worked on."""
IDLE_BEAT_S = 15.0
"""The same while nothing happens: proxies close an idle connection."""
LISTENERS = 32
"""More are refused."""
RESET = "event: reset\ndata: {}\n\n"
END = "event: end\ndata: {}\n\n"


Data = Mapping[str, Any] | str | Callable[[], str]
"""Of an event: what is not JSON yet, JSON, or what returns it when it is sent."""

_encode = json.JSONEncoder(separators=(",", ":")).encode


class TooManyListeners(Exception):
    """No place for another client."""


class _Event:
    __slots__ = ("data", "name", "number")

    def __init__(self, number: int, name: str, data: Data) -> None:
        self.number, self.name, self.data = number, name, data


def encoded(data: Mapping[str, Any] | Sequence[Any]) -> str:
    """Convert to JSON on one line, as an event's data must be."""
    return _encode(data)


def _nobody(_name: str, _data: Data) -> None:
    """Notify nobody."""


class Feed:
    """Events of one process, the newest last."""

    def __init__(self, epoch: str, *, keep: int = KEEP, listeners: int = LISTENERS, number: int = 0) -> None:
        """Keep ``keep`` events; ``epoch`` makes the ids differ from those of another process.

        ``number`` is that of the last event before these.
        """
        self.epoch = epoch
        self._ring: deque[_Event] = deque(maxlen=keep)
        self._number = number
        self._most = listeners
        self._news_arrived = anyio.Event()
        self.listeners = 0
        self.dropped = 0
        """Clients that were disconnected because they were too slow."""
        self.closed = False
        self.on_publish: Callable[[str, Data], None] = _nobody
        """Notified of every event."""

    def publish(self, name: str, data: Data) -> None:
        """Store an event; call it in the event loop."""
        self._number += 1
        self._ring.append(_Event(self._number, name, data))
        self.on_publish(name, data)
        self._wake()

    def close(self) -> None:
        """End every stream: the process ends."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        if self.listeners:
            self._news_arrived.set()
            self._news_arrived = anyio.Event()

    @property
    def number(self) -> int:
        """The number of the newest event."""
        return self._number

    @property
    def last_id(self) -> str:
        """The id of the newest event."""
        return f"{self.epoch}-{self._number}"

    async def listen(
        self, last_id: str | None, beat: Callable[[], str], busy: Callable[[], bool]
    ) -> AsyncGenerator[str, None]:
        """Return the events from now on, or since the event with an id, as text of an event stream.

        ``beat`` is added to each piece, and is a piece of its own every second while ``busy``.

        :raises TooManyListeners: there are too many already.
        """
        if self.listeners >= self._most:
            raise TooManyListeners
        self.listeners += 1
        try:
            known = self._position(last_id)
            position = self._number if known is None else known
            yield beat() if known is not None else RESET + beat()
            while not self.closed:
                await self._news(position, BEAT_S if busy() else IDLE_BEAT_S)
                if self._ring and position < self._ring[0].number - 1:
                    self.dropped += 1
                    return
                events = self._since(position)
                position = self._number
                yield "".join(map(self._text, events)) + beat()
            yield "".join(map(self._text, self._since(position))) + END
        finally:
            self.listeners -= 1

    def _position(self, last_id: str | None) -> int | None:
        """Return the number to continue after; None where missed events are not kept any more."""
        if last_id is None:
            return self._number
        epoch, _, number = last_id.rpartition("-")
        if epoch != self.epoch or not NUMBER.fullmatch(number) or int(number) > self._number:
            return None
        oldest = self._ring[0].number if self._ring else self._number + 1
        return int(number) if int(number) >= oldest - 1 else None

    async def _news(self, position: int, at_most_s: float) -> None:
        if self.closed:
            return
        if position == self._number:
            with anyio.move_on_after(at_most_s):
                await self._news_arrived.wait()
        if not self.closed:
            await anyio.sleep(GATHER_S)

    def _since(self, position: int) -> list[_Event]:
        newest_first = []
        for event in reversed(self._ring):
            if event.number <= position:
                break
            newest_first.append(event)
        return newest_first[::-1]

    def _text(self, event: _Event) -> str:
        # Encoded once, however many listen.
        if isinstance(event.data, Mapping):
            event.data = encoded(event.data)
        data = event.data if isinstance(event.data, str) else event.data()
        return f"id: {self.epoch}-{event.number}\nevent: {event.name}\ndata: {data}\n\n"
