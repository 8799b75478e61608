"""Accept loop of one listener, which keeps to its number of connections; uvicorn would accept without a limit.

Without a free descriptor it waits, and logs that once: a listener with a connection that cannot be accepted stays
readable, and a retry at once would be a busy loop.
"""

import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import anyio.lowlevel

from bringup.daemon.logs import get_logger
from bringup.daemon.status.listener.connection_slots import Places

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
    """Accept until cancelled."""
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
