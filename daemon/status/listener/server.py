"""uvicorn inside a task group, with connections and places of our own.

This needs the asyncio loop.  uvicorn and Starlette are imported when somebody asks for the first time, or when the host
is back: until then the socket's backlog keeps who connects, and a host that nobody asks pays nothing for it.
"""

import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from anyio.lowlevel import current_token

from bringup.daemon import closing
from bringup.daemon.log_rate_limit import Sparing
from bringup.daemon.logs import get_logger
from bringup.daemon.status.listener.accept import accept
from bringup.daemon.status.listener.connection_slots import KEEP_ALIVE_S, Places
from bringup.daemon.tasks import background, first_of

if TYPE_CHECKING:
    from uvicorn import Server
    from uvicorn._types import ASGIApplication

log = get_logger()

CLOSE_S = closing.STATUS_S
GRACE_S = 2
"""How long answers that are under way may take at the end."""
HEADER_BYTES = 16384


class _ToStructlog(logging.Handler):
    """Takes what uvicorn logs: its errors are ours, what it does is nobody's business; who asks can cause both."""

    def __init__(self) -> None:
        super().__init__()
        self._sparing = Sparing()

    def emit(self, record: logging.LogRecord) -> None:
        if not self._sparing.lets():
            return
        if record.exc_info:
            log.error("status.request_failed", exc_info=record.exc_info)
        else:
            log.debug("status.server", message=record.getMessage())


@asynccontextmanager
async def served(
    listener: socket.socket, make_app: Callable[[], Any], *, import_at: anyio.Event, places: Places | None = None
) -> AsyncIterator[None]:
    """Serve an application for as long as the block lasts; ``make_app`` may import what is heavy.

    Nothing is imported before somebody connects or ``import_at`` is set.  What is under way at the end is finished,
    for a few seconds.
    """
    server: Server | None = None
    ended = anyio.Event()
    stopping, told = anyio.CancelScope(), anyio.Event()

    async def serve() -> None:
        nonlocal server
        try:
            with stopping:
                await first_of(partial(anyio.wait_readable, listener), import_at.wait)
                # Who stops meanwhile need not wait for imports.
                make = partial(_make_server, listener, make_app, Places() if places is None else places, told)
                server = await anyio.to_thread.run_sync(make, abandon_on_cancel=True)
            if server is not None and not stopping.cancel_called:
                # It ends by itself when it is told to: cut off it would leave its sockets open.
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
            told.set()
            if server is not None:
                server.should_exit = True
            with anyio.move_on_after(CLOSE_S, shield=True):
                await ended.wait()
            listener.close()


def _make_server(
    listener: socket.socket, make_app: Callable[[], "ASGIApplication"], places: Places, told: anyio.Event
) -> "Server":
    from uvicorn import Config, Server

    from bringup.daemon.status.listener.connection import HttpConnection

    class GuestServer(Server):
        """A server in somebody else's process."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Leave the signals to the daemon."""
            yield

        async def main_loop(self) -> None:
            """Accept until it is told to end: uvicorn would look ten times a second, for as long as it lives."""
            loop: Any = current_token().native_token

            def connection() -> HttpConnection:
                return HttpConnection(config, self.server_state, loop, places)

            async def take(accepted: socket.socket) -> None:
                await loop.connect_accepted_socket(connection, accepted)

            async with anyio.create_task_group() as group:
                group.start_soon(accept, listener, places, take, name="accept")
                group.start_soon(places.watch, name="places")
                await told.wait()
                group.cancel_scope.cancel()
            # The kernel says "refused" from here on.
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
        # The date is what uvicorn would look at the clock for.
        date_header=False,
        timeout_keep_alive=int(KEEP_ALIVE_S),
        timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=HEADER_BYTES,
    )
    config.load()
    return GuestServer(config)


def _take_logs(names: Sequence[str]) -> None:
    """Let nothing of uvicorn's logging reach a stream of its own."""
    for name in names:
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.handlers = [_ToStructlog()]
