"""Supervisor of the processes that answer: starts one for the first client of each listener, and sends it the data.

The run never waits for such a process: one that does not read in time is ended.  One that was ended, or died, is
restarted for the next client with all that is known by then.  What it sends is untrusted: short lines, few of them, of
the kinds below.
Its counterpart is :mod:`bringup.daemon.status.listener.process`.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
from anyio.abc import ByteStream, Process, TaskGroup

import bringup
from bringup.daemon.errors import BringupError, chain_of
from bringup.daemon.log_rate_limit import LogRateLimit
from bringup.daemon.logs import get_logger
from bringup.daemon.status.endpoint.channel import CLOSE_S, TAKE_S, Channel, Channels
from bringup.daemon.status.endpoint.mirror import line, lines_of, state
from bringup.daemon.status.endpoint.sockets import BACKLOG
from bringup.daemon.status.endpoint.source import RequestHandler
from bringup.daemon.status.endpoint.unconfined import MEANS
from bringup.daemon.storage.outbox.base import Pending
from bringup.daemon.tasks import background
from bringup.daemon.text import printable
from bringup.drivers.environment import child_environment
from bringup.drivers.unix_stream import UnixStream

log = get_logger()

COMMAND: Final = (sys.executable, "-P", "-m", "bringup.daemon.status.listener.start")
"""-P: nothing in a folder of another user is imported.  Two descriptors follow."""
LINE: Final = 4 << 20
"""The longest line that it may send where operators may send requests: a request with a full body."""
SHORT_LINE: Final = 64 << 10
"""The same where they may not: a traceback."""
A_SECOND: Final = 200
"""Lines that it may send within a second."""
BYTES_A_SECOND: Final = 1 << 20
"""So many bytes of it are read; the rest waits in its pipe."""
SPARED_S: Final = 0.05
"""The shortest time between two answers to it."""
MOST_REQUESTS: Final = 8
"""Operator requests that are being processed at once, for one listener."""
AGAIN_S: Final = 0.2
AGAIN_AT_MOST_S: Final = 30.0
HEALTHY_S: Final = 60.0
"""A process that lived for so long is restarted at once."""
PENDING_S: Final = 1.0
REAP_S: Final = 1.0
"""A process that was killed has ended within this time."""
LONGEST_NAME: Final = 255
OUR_OWN: Final = os.pathsep.join(dict.fromkeys([str(Path(bringup.__file__).parents[1]), *filter(None, sys.path)]))
"""Where this code and its imports are."""
OTHER_VERSION: Final = f"its code is no longer that of bringup {bringup.__version__}, which runs; restart the daemon"
"""An upgrade replaces the files below a running daemon; the two need not understand each other."""

LEVELS: Final[Mapping[str, str]] = {
    "status.accept_failed": "warning",
    "status.request_failed": "error",
    "status.server_failed": "error",
    "status.server": "debug",
    "library.message": "debug",
    "library.messages_dropped": "debug",
}
"""The events that it may log, with the level, which it does not choose."""
KEYS: Final = ("error", "connections", "exception", "message", "library", "said", "count")
"""The keys of all of them."""
SHOWN: Final = 4000


class RelayedLog:
    """Log of one listener, for all of its processes."""

    def __init__(self, listener: str) -> None:
        """Start without a line."""
        self._listener = listener
        self._sparing = LogRateLimit()

    def relay(self, event: str, fields: Mapping[Any, Any]) -> None:
        """Log a line, a hundred a minute at most."""
        if not self._sparing.allows():
            return
        dropped = self._sparing.dropped()
        if dropped:
            log.warning("status.lines_dropped", listener=self._listener, count=dropped)
        getattr(log, LEVELS[event])(event, **{key: _shown(fields[key]) for key in KEYS if key in fields})


def _shown(value: Any) -> int | str:
    if isinstance(value, int) and abs(value) < 1 << 63:
        return value
    # A traceback has lines.
    return "\n".join(map(printable, str(value)[:SHOWN].split("\n")))


@dataclass(slots=True, kw_only=True)
class Listener:
    """Socket of one process, and the operator requests that it may relay."""

    name: str
    socket: socket.socket
    host_names: tuple[str, ...]
    requests: Mapping[str, RequestHandler] = field(default_factory=dict)


class Misbehaved(Exception):
    """The process sent what it may not, or too much, or does not read."""


@asynccontextmanager
async def supervised(
    listener: Listener, channels: Channels, *, command: Sequence[str] = COMMAND
) -> AsyncIterator[None]:
    """Run a process that answers at a listener from its first client on; at exit pending answers are finished."""
    async with background() as group:
        supervisor = _Supervisor(listener, channels, group, command)
        group.start_soon(supervisor.run, name=f"status {listener.name}")
        try:
            yield
        finally:
            anyio.notify_closing(listener.socket)
            listener.socket.close()
            await supervisor.end()


class _Supervisor:
    def __init__(self, listener: Listener, channels: Channels, group: TaskGroup, command: Sequence[str]) -> None:
        self._command = command
        self._listener = listener
        self._channels = channels
        self._group = group
        self._process: Process | None = None
        self._channel: Channel | None = None
        self._ending = self._is_up = False
        self._requests = 0
        # For all of its processes.
        self._log = RelayedLog(listener.name)

    async def run(self) -> None:
        """Start it when a client waits, again and again, until :meth:`end`."""
        again_s = 0.0
        while await self._is_wanted():
            began = time.monotonic()
            try:
                reason = await self._one_life()
            except Exception:
                # No failure of it ends the work.
                log.exception("status.server_failed")
                reason = "a bug in bringup; see the log"
            if self._is_over():
                return
            again_s = again_after_s(again_s, lived_s=time.monotonic() - began)
            log.warning("status.listener_ended", listener=self._listener.name, reason=reason, again_s=again_s)
            await anyio.sleep(again_s)

    async def _is_wanted(self) -> bool:
        """Wait until a client is in the backlog; return False where all end instead."""
        if not self._is_over():
            # Readable too if the process before it has shut it down.
            with suppress(anyio.ClosedResourceError):
                await anyio.wait_readable(self._listener.socket)
        return not self._is_over()

    def _is_over(self) -> bool:
        # All of them are asked to end before any is waited for.
        return self._ending or self._channels.ends_at is not None

    async def end(self) -> None:
        """Finish pending answers and end; all of them have the same time for it."""
        self._ending = True
        if self._channel is not None:
            self._channel.end()
        process = self._process
        if process is None:
            return
        # One that does not answer yet has nothing to finish.
        if self._is_up:
            ends_at = self._channels.ends_at
            left_s = CLOSE_S if ends_at is None else max(0.0, ends_at - anyio.current_time())
            with anyio.move_on_after(left_s, shield=True):
                await process.wait()
                return
        _kill(process)

    async def _one_life(self) -> str:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours:
            with theirs:
                try:
                    process = await self._started(theirs)
                except OSError as error:
                    return f"it cannot be started: {error.strerror}"
            self._process, self._is_up = process, False
            try:
                async with UnixStream(ours) as stream:
                    return await self._talk(stream, process)
            finally:
                _kill(process)
                with anyio.move_on_after(REAP_S, shield=True):
                    await process.wait()
                self._process = None

    async def _started(self, pipe: socket.socket) -> Process:
        # The process before it may have shut it down.
        self._listener.socket.listen(BACKLOG)
        descriptors = (self._listener.socket.fileno(), pipe.fileno())
        return await anyio.open_process(
            [*self._command, *map(str, descriptors)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment(),
            # Signals of a terminal are for the daemon.
            start_new_session=True,
            pass_fds=descriptors,
        )

    async def _talk(self, stream: ByteStream, process: Process) -> str:
        requests = tuple(self._listener.requests)
        reason: str | None = None
        with self._channels.opened(self._listener.host_names, requests) as channel:
            self._channel = channel
            if self._is_over():
                channel.end()
            async with anyio.create_task_group() as group:

                async def until_it_fails(what: Coroutine[Any, Any, None]) -> None:
                    nonlocal reason
                    try:
                        await what
                    except TimeoutError:
                        reason = "it does not read what it is sent"
                    except Misbehaved as error:
                        reason = str(error)
                    except anyio.BrokenResourceError:
                        pass  # it is gone
                    group.cancel_scope.cancel()

                group.start_soon(until_it_fails, self._send(stream, channel), name="send")
                group.start_soon(until_it_fails, self._receive(stream, channel), name="receive")
            self._channel = None
        if reason is None:
            with anyio.move_on_after(CLOSE_S):
                return f"it ended with {await process.wait()}"
        return reason or "it closed the pipe"

    async def _send(self, stream: ByteStream, channel: Channel) -> None:
        spared_until = 0.0
        while True:
            question = await channel.wait()
            if question:
                await anyio.sleep_until(spared_until)
                spared_until = anyio.current_time() + SPARED_S
                await self._read_reports()
            if channel.is_full:
                raise Misbehaved("it does not keep up")
            lines = [*channel.drain(), state(self._channels.source, self._channels.pending)]
            if question:
                lines.append(line("answer", question))
            is_ending = channel.is_ending
            if is_ending:
                lines.append(line("end"))
            with anyio.fail_after(TAKE_S):
                await stream.send("".join(lines).encode())
            if is_ending:
                await anyio.sleep_forever()

    async def _read_reports(self) -> None:
        """Read what waits on the disk, which may not answer."""
        pending: Pending | None = None
        with suppress(Exception), anyio.move_on_after(PENDING_S):
            pending = await self._channels.source.reports()
        if pending is not None:
            self._channels.pending = pending

    async def _receive(self, stream: ByteStream, channel: Channel) -> None:
        sparing = LogRateLimit(A_SECOND, 1.0)
        try:
            longest = LINE if self._listener.requests else SHORT_LINE
            async with aclosing(lines_of(stream, longest, BYTES_A_SECOND)) as lines:
                async for each in lines:
                    if not sparing.allows():
                        raise Misbehaved("it sends more than it may")
                    self._handle(json.loads(each), channel)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise Misbehaved(f"it sends what it may not: {type(error).__name__}") from error

    def _handle(self, message: dict[str, Any], channel: Channel) -> None:
        match message:
            case {"up": str(version)}:
                if version != bringup.__version__:
                    raise Misbehaved(OTHER_VERSION)
                self._is_up = True
            case {"ask": int(number)}:
                channel.ask(number)
            case {"request": str(request), "number": int(number), "uuids": list(uuids)}:
                if request not in self._listener.requests or not all(_is_name(each) for each in uuids):
                    raise Misbehaved("it sends a request that it may not")
                self._group.start_soon(self._handle_request, request, number, uuids, channel, name="request")
            case {"log": {"event": str(event), **fields}} if event in LEVELS:
                self._log.relay(event, fields)
            case {"lacks": dict(lacks)} if lacks.keys() <= MEANS.keys():
                self._channels.lacking.note(lacks)
            case _:
                raise Misbehaved("it sends what it may not")

    async def _handle_request(self, request: str, number: int, uuids: Sequence[str], channel: Channel) -> None:
        if self._requests >= MOST_REQUESTS:
            channel.add(
                line("request", number, {"error": "too many such requests at once; try again", "exit_code": 75})
            )
            return
        self._requests += 1
        try:
            answer: Mapping[str, Any] = {"done": await self._listener.requests[request](uuids)}
        except BringupError as error:
            answer = {"error": chain_of(error), "exit_code": error.exit_code}
        except TimeoutError:
            answer = {"error": f"{request} did not end within limits.host_deadline", "exit_code": 75}
        except Exception:
            log.exception("status.request_failed")
            answer = {"error": "a bug in bringup; see the log", "exit_code": 70}
        finally:
            self._requests -= 1
        channel.add(line("request", number, answer))


def again_after_s(before_s: float, *, lived_s: float) -> float:
    """Return how long to wait before a restart; ``before_s`` is how long it was before the process that ended."""
    return AGAIN_S if lived_s > HEALTHY_S else min(max(AGAIN_S, 2 * before_s), AGAIN_AT_MOST_S)


def environment() -> dict[str, str]:
    """Return the environment of such a process."""
    return child_environment() | {"PYTHONPATH": OUR_OWN}


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value) <= LONGEST_NAME


def _kill(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
