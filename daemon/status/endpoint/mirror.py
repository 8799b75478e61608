"""What the daemon tells the process that answers, and what that process makes of it: the same source once more.

Lines of JSON, each an array that begins with a word.  What is told is in the order in which it happened; the state,
which is small, is told anew each time.  The other way go few and small lines, which the daemon reads as it would a
stranger's.
"""

import json
import math
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import anyio
from anyio.abc import ByteReceiveStream

from bringup.daemon.errors import BringupError
from bringup.daemon.status.endpoint.event_feed import Feed
from bringup.daemon.status.endpoint.recorder import Recorder
from bringup.daemon.status.endpoint.source import FilterState, StatusSource
from bringup.daemon.storage.outbox.base import Pending
from bringup.drivers.capacity import Capacity

CONSTANT: Final = ("host", "version", "boot_id", "stuck_after_s", "gate_s", "host_s")
CHANGING: Final = ("slots", "stopping", "waiting", "next_look_at")
PIECE: Final = 65536
PIECE_S: Final = 0.005


def line(*parts: Any) -> str:
    """Write a line."""
    return json.dumps(parts, separators=(",", ":")) + "\n"


async def lines_of(
    stream: ByteReceiveStream, longest: int | None = None, a_second: float = math.inf
) -> AsyncGenerator[bytes, None]:
    """Give line after line until the other side has closed; of a stranger so many bytes a second.

    :raises ValueError: one is longer than it may be.
    """
    rest = bytearray()
    while True:
        try:
            piece = await stream.receive(PIECE)
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return
        first, *whole = piece.split(b"\n")
        rest += first
        for each in whole:
            yield bytes(rest)
            rest = bytearray(each)
        if longest is not None and len(rest) > longest:
            raise ValueError("a line is too long")
        if a_second < math.inf:
            # Byte by byte it would be a thousand looks a second.
            await anyio.sleep(max(len(piece) / a_second, PIECE_S))


def beginning(source: StatusSource, host_names: tuple[str, ...], words: tuple[str, ...]) -> list[str]:
    """Tell all that is known, but the state; to a process that knows nothing."""
    recorder = source.recorder
    hello = {
        "pid": os.getpid(),
        **{name: getattr(source, name) for name in CONSTANT},
        "started_at": recorder.started_at.isoformat(),
        "epoch": recorder.feed.epoch,
        "number": recorder.feed.number,
        "host_names": host_names,
        "words": words,
    }
    bars = [line("bar", uuid, text) for uuid, text in recorder.settled()]
    urgent = [line("urgent", uuid, told) for uuid, told in recorder.urgent.items()]
    return [line("hello", hello), *bars, *urgent]


def open_files() -> int | None:
    """Count the file descriptors of this process."""
    with suppress(OSError):
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - twenty times a second
    return None


def state(source: StatusSource, pending: Pending) -> str:
    """Tell what changes all the time."""
    filtered = source.filter
    return line(
        "state",
        {
            **{name: getattr(source, name) for name in CHANGING},
            "staying": source.staying.is_set(),
            "hanging": source.hanging(),
            "filter": [
                filtered.put_back,
                None if filtered.last_at is None else filtered.last_at.isoformat(),
                filtered.problem,
            ],
            "open_files": open_files(),
            "pending": [pending.count, pending.oldest_s, pending.retries],
            "progress": source.progress.told(),
            "recorder": source.recorder.told(),
        },
    )


class Relayed(BringupError):
    """What the daemon says to an operator's word that it cannot take."""

    def __init__(self, text: str, exit_code: int) -> None:
        """Say it as the daemon does."""
        super().__init__(text)
        self.exit_code = exit_code


class Mirror:
    """The source of the process that answers, as the daemon tells it."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.source: StatusSource | None = None
        self.host_names: tuple[str, ...] = ()
        self.words: tuple[str, ...] = ()
        self.known = anyio.Event()
        """Set when all that was known at the beginning is here."""
        self.staying = anyio.Event()
        self.answered = 0
        """The last question that the daemon has answered."""
        self.on_answer: Callable[[], None] = lambda: None
        self.on_word: Callable[[int, Mapping[str, Any]], None] = lambda *_: None
        self._hanging: str | None = None
        self._pending = Pending()

    def hear(self, text: bytes) -> None:
        """Take a line in."""
        word, *told = json.loads(text)
        match word:
            case "hello":
                self.source = self._made(told[0])
            case "answer":
                self.answered = told[0]
                self.on_answer()
            case "word":
                self.on_word(told[0], told[1])
            case _ if self.source is not None:
                self._take(self.source, word, told)

    def _take(self, source: StatusSource, word: str, told: list[Any]) -> None:
        recorder = source.recorder
        match word:
            case "bar":
                recorder.take_settled(told[0], told[1])
            case "urgent":
                recorder.urgent[told[0]] = told[1]
            case "settled":
                uuid, text, urgent = told
                recorder.urgent.pop(uuid, None)
                if urgent is not None:
                    recorder.urgent[uuid] = urgent
                recorder.settle(uuid, text)
            case "said":
                recorder.feed.say(told[0], told[1])
            case "close":
                recorder.feed.close()
            case "state":
                self._take_state(source, told[0])
                self.known.set()

    def _made(self, told: Mapping[str, Any]) -> StatusSource:
        self.host_names, self.words = tuple(told["host_names"]), tuple(told["words"])
        recorder = Recorder(lambda: datetime.fromisoformat(told["started_at"]))
        recorder.feed = Feed(told["epoch"], number=told["number"])

        async def reports() -> Pending:
            return self._pending

        return StatusSource(
            **{name: told[name] for name in CONSTANT},
            pid=told["pid"],
            capacity=Capacity(1),
            recorder=recorder,
            reports=reports,
            staying=self.staying,
            hanging=lambda: self._hanging,
        )

    def _take_state(self, source: StatusSource, told: Mapping[str, Any]) -> None:
        for name in CHANGING:
            setattr(source, name, told[name])
        if told["staying"]:
            self.staying.set()
        self._hanging = told["hanging"]
        source.open_files = told["open_files"]
        self._pending = Pending(*told["pending"])
        put_back, last_at, problem = told["filter"]
        source.filter = FilterState(put_back, None if last_at is None else datetime.fromisoformat(last_at), problem)
        source.progress.take(told["progress"])
        source.recorder.take(told["recorder"])
