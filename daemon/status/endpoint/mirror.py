"""Format of the pipe from the daemon to the process that answers, and the copy of the source that this process keeps.

Lines of JSON, each an array that begins with its kind.  Events are sent in their order; the state, which is small, is
sent whole each time.  The other direction has few and small lines, which the daemon does not trust.
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
from bringup.daemon.status.endpoint.ended_bar import EndedBar
from bringup.daemon.status.endpoint.event_feed import Feed, encoded
from bringup.daemon.status.endpoint.recorder import Recorder
from bringup.daemon.status.endpoint.source import FilterState, StatusSource
from bringup.daemon.storage.outbox.base import Pending
from bringup.drivers.capacity import Capacity

CONSTANT: Final = ("host", "version", "boot_id", "stuck_after_s", "gate_s", "host_s")
CHANGING: Final = ("slots", "stopping", "waiting", "next_check_at")
PIECE: Final = 65536
PIECE_S: Final = 0.005


def line(*parts: Any) -> str:
    """Convert to a line."""
    return encoded(parts) + "\n"


async def lines_of(
    stream: ByteReceiveStream, longest: int | None = None, a_second: float = math.inf
) -> AsyncGenerator[bytes, None]:
    """Return line after line until the other side has closed; of an untrusted one so many bytes a second.

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
            # Byte by byte it would be a thousand reads a second.
            await anyio.sleep(max(len(piece) / a_second, PIECE_S))


def beginning(source: StatusSource, host_names: tuple[str, ...], requests: tuple[str, ...]) -> list[str]:
    """Return all that is known but the state, for a process that starts."""
    recorder = source.recorder
    hello = {
        "pid": os.getpid(),
        **{name: getattr(source, name) for name in CONSTANT},
        "started_at": recorder.started_at.isoformat(),
        "epoch": recorder.feed.epoch,
        "number": recorder.feed.number,
        "host_names": host_names,
        "requests": requests,
    }
    bars = [line("bar", uuid, bar.facts, bar.took_s) for uuid, bar in recorder.settled()]
    urgent = [line("urgent", uuid, facts) for uuid, facts in recorder.urgent.items()]
    return [line("hello", hello), *bars, *urgent]


def open_files() -> int | None:
    """Count the file descriptors of this process."""
    with suppress(OSError):
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - twenty times a second
    return None


def state(source: StatusSource, pending: Pending) -> str:
    """Return the line of what changes all the time."""
    filtered = source.filter
    return line(
        "state",
        {
            **{name: getattr(source, name) for name in CHANGING},
            "staying": source.staying.is_set(),
            "hanging": source.hanging(),
            "filter": [
                filtered.restored,
                None if filtered.last_at is None else filtered.last_at.isoformat(),
                filtered.problem,
            ],
            "open_files": open_files(),
            "pending": [pending.count, pending.oldest_s, pending.retries],
            "progress": source.progress.dump(),
            "recorder": source.recorder.dump(),
        },
    )


class Relayed(BringupError):
    """An operator request was refused by the daemon."""

    def __init__(self, text: str, exit_code: int) -> None:
        """Store the text and the exit code of the daemon."""
        super().__init__(text)
        self.exit_code = exit_code


class Mirror:
    """Copy of the daemon's source in the process that answers."""

    def __init__(self) -> None:
        """Start empty."""
        self.source: StatusSource | None = None
        self.host_names: tuple[str, ...] = ()
        self.requests: tuple[str, ...] = ()
        self.known = anyio.Event()
        """Set when all that was known at the start has arrived."""
        self.staying = anyio.Event()
        self.answered = 0
        """The number of the last question that the daemon has answered."""
        self.on_answer: Callable[[], None] = lambda: None
        self.on_result: Callable[[int, Mapping[str, Any]], None] = lambda *_: None
        self._hanging: str | None = None
        self._pending = Pending()

    def apply(self, text: bytes) -> None:
        """Apply a line."""
        kind, *facts = json.loads(text)
        match kind:
            case "hello":
                self.source = self._make_source(facts[0])
            case "answer":
                self.answered = facts[0]
                self.on_answer()
            case "request":
                self.on_result(facts[0], facts[1])
            case _ if self.source is not None:
                self._apply_to(self.source, kind, facts)

    def _apply_to(self, source: StatusSource, kind: str, facts: list[Any]) -> None:
        recorder = source.recorder
        match kind:
            case "bar":
                recorder.restore_settled(facts[0], EndedBar(facts[1], facts[2]))
            case "urgent":
                recorder.urgent[facts[0]] = facts[1]
            case "settled":
                uuid, text, took_s, urgent = facts
                recorder.urgent.pop(uuid, None)
                if urgent is not None:
                    recorder.urgent[uuid] = urgent
                recorder.settle(uuid, EndedBar(text, took_s))
            case "event":
                recorder.feed.publish(facts[0], facts[1])
            case "close":
                recorder.feed.close()
            case "state":
                self._apply_state(source, facts[0])
                self.known.set()

    def _make_source(self, facts: Mapping[str, Any]) -> StatusSource:
        self.host_names, self.requests = tuple(facts["host_names"]), tuple(facts["requests"])
        recorder = Recorder(lambda: datetime.fromisoformat(facts["started_at"]))
        recorder.feed = Feed(facts["epoch"], number=facts["number"])

        async def reports() -> Pending:
            return self._pending

        return StatusSource(
            **{name: facts[name] for name in CONSTANT},
            pid=facts["pid"],
            capacity=Capacity(1),
            recorder=recorder,
            reports=reports,
            staying=self.staying,
            hanging=lambda: self._hanging,
        )

    def _apply_state(self, source: StatusSource, facts: Mapping[str, Any]) -> None:
        for name in CHANGING:
            setattr(source, name, facts[name])
        if facts["staying"]:
            self.staying.set()
        self._hanging = facts["hanging"]
        source.open_files = facts["open_files"]
        self._pending = Pending(*facts["pending"])
        restored, last_at, problem = facts["filter"]
        source.filter = FilterState(restored, None if last_at is None else datetime.fromisoformat(last_at), problem)
        source.progress.restore(facts["progress"])
        source.recorder.restore(facts["recorder"])
