"""Process that answers at one listener, once :mod:`bringup.daemon.status.listener.start` has dropped its privileges.

The daemon starts it for the first client, with two descriptors: the socket that it accepts at, and the pipe over which
it receives its data (:mod:`bringup.daemon.status.endpoint.mirror`).  It has nothing else of the daemon's, ends with the
pipe, and is restarted for the next client when it dies.  Its counterpart is
:mod:`bringup.daemon.status.endpoint.listeners`.
"""

import json
import socket
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import partial
from typing import Any, Final

import anyio
import structlog
from anyio.abc import ByteStream
from structlog.typing import WrappedLogger

from bringup import __version__
from bringup.daemon.library_logs import keep_out
from bringup.daemon.status.endpoint.mirror import Mirror, Relayed, lines_of
from bringup.daemon.status.listener.confinement import end_threads
from bringup.daemon.status.listener.connection_slots import Places
from bringup.daemon.status.listener.server import running_server
from bringup.daemon.tasks import background, first_of
from bringup.drivers.unix_stream import UnixStream

PATIENCE_S: Final = 4.0
"""How long the daemon may take to answer; a probe has some more."""
SPARED_S: Final = 0.1
"""The shortest time between two questions to the daemon, however many clients there are."""
MOST_REQUESTS: Final = 4
"""Operator requests that are being processed at once."""
UNSENT: Final = 1000
"""Lines that wait for the daemon at most; more log lines are dropped."""


SHARE: Final = 0.25
"""Of one processor."""
EVERY_S: Final = 0.05
LONGEST_S: Final = 0.5
"""The longest pause; probes wait for some seconds."""


def pause_s(used_s: float, passed_s: float, share: float = SHARE) -> float:
    """Return how long to pause after so much CPU time was used within a time."""
    return min(LONGEST_S, max(0.0, used_s / share - passed_s))


async def pace(places: Places) -> None:
    """Keep to the share of a processor while there are connections, until cancelled: stand still for a while.

    Clients wait a fraction of a second longer; the work of the host, which needs the same processors, does not.
    """
    while True:
        await places.taken()
        used_s, began_s = time.process_time(), time.monotonic()
        await anyio.sleep(EVERY_S)
        # Nothing else may run in this process either: that is the purpose.
        time.sleep(pause_s(time.process_time() - used_s, time.monotonic() - began_s))  # noqa: ASYNC251


class AnsweringProcess:
    """State of this process."""

    def __init__(self, listener: socket.socket, pipe: ByteStream, lacks: Mapping[str, str]) -> None:
        """Answer at a listener with the data of the pipe; ``lacks`` is what could not be confined, and why."""
        self._lacks = lacks
        self._listener = listener
        self._pipe = pipe
        self._mirror = Mirror()
        self._unsent: list[str] = []
        self._to_send = anyio.Event()
        self._asked = anyio.Event()
        self._next = anyio.Event()
        self._number = 0
        self._waiting: dict[int, anyio.Event] = {}
        self._results: dict[int, Any] = {}
        self._slots = anyio.Semaphore(MOST_REQUESTS)

    async def run(self) -> None:
        """Answer until the daemon ends, or has died."""
        mirror = self._mirror
        mirror.on_result = self._on_result
        async with background() as group:
            group.start_soon(self._send, name="send")
            self._post({"up": __version__})
            self._post_lacks(self._lacks)
            ended = anyio.Event()
            group.start_soon(self._receive, ended, name="receive")
            await first_of(mirror.known.wait, ended.wait)
            if mirror.source is None or ended.is_set():
                return
            mirror.source.fresh = self._fresh
            group.start_soon(self._ask, name="ask")
            places = Places()
            group.start_soon(pace, places, name="pace")
            async with running_server(self._listener, self._app, places=places):
                await ended.wait()

    def log(self, _logger: WrappedLogger, _method: str, event: MutableMapping[str, Any]) -> str:
        """Send a log line to the daemon, which has the format, the level and the limits."""
        if len(self._unsent) < UNSENT:
            self._post({"log": {key: value if isinstance(value, int) else str(value) for key, value in event.items()}})
        raise structlog.DropEvent

    def _app(self) -> Any:
        from bringup.daemon.status.listener.app import make_app

        assert self._mirror.source is not None  # noqa: S101 - it is known before the first request
        requests = {request: partial(self._relay, request) for request in self._mirror.requests}
        app = make_app(self._mirror.source, requests, host_names=self._mirror.host_names)
        # No client has been read yet; this is the last thread that is needed.
        self._post_lacks(end_threads())
        return app

    def _post_lacks(self, lacks: Mapping[str, str]) -> None:
        if lacks:
            self._post({"lacks": lacks})

    async def _receive(self, ended: anyio.Event) -> None:
        async for each in lines_of(self._pipe):
            if each == b'["end"]':
                break
            self._mirror.apply(each)
        ended.set()

    def _post(self, message: Any) -> None:
        self._unsent.append(json.dumps(message, separators=(",", ":")) + "\n")
        self._to_send.set()

    async def _send(self) -> None:
        while True:
            await self._to_send.wait()
            self._to_send = anyio.Event()
            unsent, self._unsent = self._unsent, []
            try:
                await self._pipe.send("".join(unsent).encode())
            except anyio.BrokenResourceError:
                return  # the daemon has died, which ends the reading

    async def _fresh(self) -> str | None:
        """Wait until all that had happened at the time of the call is known; waiting requests share one question."""
        answered = self._next
        self._asked.set()
        with anyio.move_on_after(PATIENCE_S):
            await answered.wait()
            return None
        return f"the daemon has not answered for {PATIENCE_S:g} s"

    async def _ask(self) -> None:
        while True:
            await self._asked.wait()
            self._asked = anyio.Event()
            answered, self._next = self._next, anyio.Event()
            self._number += 1
            arrived = anyio.Event()
            self._mirror.on_answer = arrived.set
            self._post({"ask": self._number})
            await arrived.wait()
            answered.set()
            await anyio.sleep(SPARED_S)

    async def _relay(self, request: str, uuids: Sequence[str]) -> list[str]:
        """Send an operator request to the daemon, and wait for its answer."""
        async with self._slots:
            self._number += 1
            number, arrived = self._number, anyio.Event()
            self._waiting[number] = arrived
            self._post({"request": request, "number": number, "uuids": list(uuids)})
            await arrived.wait()
            result = self._results.pop(number)
        if "error" in result:
            raise Relayed(result["error"], result["exit_code"])
        done: list[str] = result["done"]
        return done

    def _on_result(self, number: int, result: Any) -> None:
        arrived = self._waiting.pop(number, None)
        if arrived is not None:
            self._results[number] = result
            arrived.set()


async def answer(listener: socket.socket, pipe: socket.socket, lacks: Mapping[str, str]) -> None:
    """Answer at a listener, and log over the pipe."""
    async with UnixStream(pipe) as stream:
        process = AnsweringProcess(listener, stream, lacks)
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.format_exc_info,
                process.log,
            ],
            logger_factory=structlog.ReturnLoggerFactory(),
        )
        await process.run()


def main(arguments: Sequence[str], lacks: Mapping[str, str], run: Callable[..., Any] = anyio.run) -> None:
    """Answer at the socket whose descriptor is the first argument; the pipe's is the second."""
    keep_out()
    listener, pipe = (socket.socket(fileno=int(each)) for each in arguments)
    listener.settimeout(0)
    run(answer, listener, pipe, lacks)
