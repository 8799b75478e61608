"""What is on its way to the processes that answer.  Whoever tells here never waits."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import anyio

from bringup.daemon import closing
from bringup.daemon.status.endpoint.mirror import beginning, line
from bringup.daemon.status.endpoint.source import StatusSource
from bringup.daemon.status.endpoint.unconfined import Lacking
from bringup.daemon.storage.outbox.base import Pending

MOST_LINES: Final = 100_000
"""Who has not taken so many does not keep up."""
GATHER_S: Final = 0.05
"""What happens within this time is sent together, unless somebody waits for it."""
CLOSE_S: Final = closing.STATUS_S
TAKE_S: Final = 10.0
"""How long what is sent may take to be taken."""


class Channel:
    """The lines to one process."""

    def __init__(self, lines: list[str]) -> None:
        """Begin with lines."""
        self._lines = lines
        self._most = len(lines) + MOST_LINES
        self._there = anyio.Event()
        self._asked = anyio.Event()
        self._question = 0
        self.is_full = False
        self.is_ending = False
        self._there.set()

    def end(self) -> None:
        """Note that nothing more comes after what is there."""
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
        """Note a question, which is answered with all that is known."""
        self._question = number
        self._there.set()
        self._asked.set()

    async def due(self) -> int:
        """Wait until there is something to send; give the number of the last question, 0 for none."""
        await self._there.wait()
        if not (self._question or self.is_ending):
            with anyio.move_on_after(GATHER_S):
                await self._asked.wait()
        self._there, self._asked = anyio.Event(), anyio.Event()
        number, self._question = self._question, 0
        return number

    def take(self) -> list[str]:
        """Take what is there."""
        taken, self._lines = self._lines, []
        self._most = MOST_LINES
        return taken


class Channels:
    """The channels to all of them: each is told everything."""

    def __init__(self, source: StatusSource) -> None:
        """Tell of a source."""
        self.source = source
        self.ends_at: float | None = None
        """By when all of them have ended, in the time of the event loop."""
        self.pending = Pending()
        """The reports that waited when somebody asked last."""
        self.lacking = Lacking()
        self._open: list[Channel] = []
        source.recorder.on_settled = self._settled
        source.recorder.feed.on_say = self._said

    @contextmanager
    def opened(self, host_names: tuple[str, ...], words: tuple[str, ...]) -> Iterator[Channel]:
        """Open one more; it begins with all that is known."""
        channel = Channel(beginning(self.source, host_names, words))
        self._open.append(channel)
        try:
            yield channel
        finally:
            self._open.remove(channel)

    def close(self) -> None:
        """Tell that nothing more will happen, and have all of them end at the same time."""
        self.source.recorder.feed.close()
        self._add("close")
        self.ends_at = anyio.current_time() + CLOSE_S
        for channel in self._open:
            channel.end()

    async def tell_when_back(self) -> None:
        """Tell that the host is back, when it is."""
        await self.source.staying.wait()
        self._add("back")

    def _settled(self, uuid: str, text: str) -> None:
        self._add("settled", uuid, text, self.source.recorder.urgent.get(uuid))

    def _said(self, name: str, data: Mapping[str, Any] | str) -> None:
        if name != "ended":  # that has been told in full
            self._add("said", name, data)

    def _add(self, *parts: Any) -> None:
        if self._open:
            text = line(*parts)
            for channel in self._open:
                channel.add(text)
