"""uvicorn inside a task group, with connections and slots of our own; it needs the asyncio loop."""

import errno
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.lowlevel
from anyio.lowlevel import current_token

from bringup.daemon import closing
from bringup.daemon.log_rate_limit import LogRateLimit
from bringup.daemon.logs import get_logger
from bringup.daemon.status.listener.connection_slots import KEEP_ALIVE_S, Places
from bringup.daemon.tasks import background

if TYPE_CHECKING:
    from uvicorn import Server
    from uvicorn._types import ASGIApplication

log = get_logger()

AT_ONCE: Final = 16
"""Accepted before connections are read again: one that has sent a request is not closed unread."""
AGAIN_S: Final = 0.5
BUFFER: Final = 128 << 10
"""Bytes of an answer that the kernel buffers: without a limit it is megabytes for each client that does not read."""
USED_UP: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Take = Callable[[socket.socket], Awaitable[object]]
"""Serves a connection, and owns its socket from then on."""


async def accept(listener: socket.socket, places: Places, take: Take) -> None:
    """Accept as many connections as there are slots until cancelled; uvicorn would accept without a limit.

    Without a free descriptor it waits, and logs that once: a listener with a connection that cannot be accepted stays
    readable, and a retry at once would be a busy loop.
    """
    is_logged = False
    while True:
        await anyio.wait_readable(listener)
        problem = await _accept_some(listener, places, take)
        if problem is None:
            is_logged = False
            continue
        if not is_logged:
            is_logged = True
            log.warning("status.accept_failed", error=problem.strerror, connections=len(places))
        await anyio.sleep(AGAIN_S)


async def _accept_some(listener: socket.socket, places: Places, take: Take) -> OSError | None:
    """Accept what waits; return the error if nothing more can be accepted for now."""
    for _ in range(AT_ONCE):
        if not places.make_room():
            await places.changed()
            break
        try:
            accepted, _ = listener.accept()
        except OSError as error:
            # Any other error is that of one connection, which has ended, or none waits: see accept(2).
            return error if error.errno in USED_UP else None
        accepted.settimeout(0)
        try:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            await take(accepted)
        except OSError:
            accepted.close()
    await anyio.lowlevel.checkpoint()
    return None


CLOSE_S = closing.STATUS_S
GRACE_S = 2
"""How long pending answers may take at exit."""
HEADER_BYTES = 16384


class _ToStructlog(logging.Handler):
    """Handler of uvicorn's log: errors are logged as ours, the rest for debugging; clients can cause both."""

    def __init__(self) -> None:
        super().__init__()
        self._sparing = LogRateLimit()

    def emit(self, record: logging.LogRecord) -> None:
        if not self._sparing.allows():
            return
        if record.exc_info:
            log.error("status.request_failed", exc_info=record.exc_info)
        else:
            log.debug("status.server", message=record.getMessage())


@asynccontextmanager
async def running_server(
    listener: socket.socket, make_app: Callable[[], Any], *, places: Places | None = None
) -> AsyncIterator[None]:
    """Serve an application for as long as the block lasts; ``make_app`` may import what is heavy.

    Pending answers are finished at exit, for a few seconds.
    """
    server: Server | None = None
    ended = anyio.Event()
    stopping, ending = anyio.CancelScope(), anyio.Event()

    async def serve() -> None:
        nonlocal server
        try:
            with stopping:
                # A stop need not wait for imports.
                make = partial(_make_server, listener, make_app, Places() if places is None else places, ending)
                server = await anyio.to_thread.run_sync(make, abandon_on_cancel=True)
            if server is not None and not stopping.cancel_called:
                # It ends by itself on request: cancelled it would leave its sockets open.
                with anyio.CancelScope(shield=True):
                    await server.serve([])
        except Exception:
            log.exception("status.server_failed")
        finally:
            ended.set()

    async with background() as group:
        group.start_soon(serve, name="status")
        try:
            yield
        finally:
            stopping.cancel()
            ending.set()
            if server is not None:
                server.should_exit = True
            with anyio.move_on_after(CLOSE_S, shield=True):
                await ended.wait()
            listener.close()


def _make_server(
    listener: socket.socket, make_app: Callable[[], "ASGIApplication"], places: Places, ending: anyio.Event
) -> "Server":
    from uvicorn import Config, Server

    from bringup.daemon.status.listener.connection import HttpConnection

    class GuestServer(Server):
        """Server inside the process of another program."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Leave the signals to the daemon."""
            yield

        async def main_loop(self) -> None:
            """Accept until the end: uvicorn would wake ten times a second."""
            loop: Any = current_token().native_token

            def connection() -> HttpConnection:
                return HttpConnection(config, self.server_state, loop, places)

            async def take(accepted: socket.socket) -> None:
                await loop.connect_accepted_socket(connection, accepted)

            async with anyio.create_task_group() as group:
                group.start_soon(accept, listener, places, take, name="accept")
                group.start_soon(places.watch, name="places")
                await ending.wait()
                group.cancel_scope.cancel()
            # The kernel refuses connections from here on.
            listener.close()

    _take_logs(("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"))
    config = Config(
        make_app(),
        loop="none",
        http=HttpConnection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        # uvicorn would read the clock for the date.
        date_header=False,
        timeout_keep_alive=int(KEEP_ALIVE_S),
        timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=HEADER_BYTES,
    )
    config.load()
    return GuestServer(config)


def _take_logs(names: Sequence[str]) -> None:
    """Send all of uvicorn's log to our handler."""
    for name in names:
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.handlers = [_ToStructlog()]
