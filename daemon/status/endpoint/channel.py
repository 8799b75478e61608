"""Queues of lines to the processes that answer.  Adding a line never waits."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import anyio

from bringup.daemon import closing
from bringup.daemon.status.endpoint.ended_bar import EndedBar
from bringup.daemon.status.endpoint.event_feed import Data
from bringup.daemon.status.endpoint.mirror import beginning, line
from bringup.daemon.status.endpoint.source import StatusSource
from bringup.daemon.status.endpoint.unconfined import Lacking
from bringup.daemon.storage.outbox.base import Pending

MOST_LINES: Final = 100_000
"""A process that has more lines to read does not keep up."""
GATHER_S: Final = 0.05
"""Lines of this time are sent together, unless a request waits for them."""
CLOSE_S: Final = closing.STATUS_S
TAKE_S: Final = 10.0
"""How long the process may take to read what is sent."""


class Channel:
    """Lines to one process."""

    def __init__(self, lines: list[str]) -> None:
        """Start with lines."""
        self._lines = lines
        self._most = len(lines) + MOST_LINES
        self._there = anyio.Event()
        self._asked = anyio.Event()
        self._question = 0
        self.is_full = False
        self.is_ending = False
        self._there.set()

    def end(self) -> None:
        """Store that no line follows."""
        self.is_ending = True
        self._there.set()
        self._asked.set()

    def add(self, text: str) -> None:
        """Add a line."""
        if len(self._lines) >= self._most:
            self.is_full = True
            self._lines.clear()
        self._lines.append(text)
        self._there.set()

    def ask(self, number: int) -> None:
        """Store the number of a question; all that is known is sent before its answer."""
        self._question = number
        self._there.set()
        self._asked.set()

    async def wait(self) -> int:
        """Wait until there is something to send; return the number of the last question, 0 for none."""
        await self._there.wait()
        if not (self._question or self.is_ending):
            with anyio.move_on_after(GATHER_S):
                await self._asked.wait()
        self._there, self._asked = anyio.Event(), anyio.Event()
        number, self._question = self._question, 0
        return number

    def drain(self) -> list[str]:
        """Return the lines, and remove them."""
        taken, self._lines = self._lines, []
        self._most = MOST_LINES
        return taken


class Channels:
    """Channels to all processes: each receives everything."""

    def __init__(self, source: StatusSource) -> None:
        """Send what happens to a source."""
        self.source = source
        self.ends_at: float | None = None
        """By when all of them have ended, in the time of the event loop."""
        self.pending = Pending()
        """The reports that waited at the last request."""
        self.lacking = Lacking()
        self._open: list[Channel] = []
        source.recorder.on_settled = self._settled
        source.recorder.feed.on_publish = self._published

    @contextmanager
    def opened(self, host_names: tuple[str, ...], requests: tuple[str, ...]) -> Iterator[Channel]:
        """Open one more; its first lines are all that is known."""
        channel = Channel(beginning(self.source, host_names, requests))
        self._open.append(channel)
        try:
            yield channel
        finally:
            self._open.remove(channel)

    def close(self) -> None:
        """Send that nothing more will happen, and end all of them at the same time."""
        self.source.recorder.feed.close()
        self._add("close")
        self.ends_at = anyio.current_time() + CLOSE_S
        for channel in self._open:
            channel.end()

    async def send_when_back(self) -> None:
        """Wait until the host is back, and send that."""
        await self.source.staying.wait()
        self._add("back")

    def _settled(self, uuid: str, bar: EndedBar) -> None:
        self._add("settled", uuid, bar.facts, bar.took_s, self.source.recorder.urgent.get(uuid))

    def _published(self, name: str, data: Data) -> None:
        if name != "ended":  # the line of the bar has all of it
            self._add("event", name, data)

    def _add(self, *parts: Any) -> None:
        if self._open:
            text = line(*parts)
            for channel in self._open:
                channel.add(text)
