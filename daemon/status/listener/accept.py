"""Takes connections of one listener, as many as there are places for; uvicorn would take them without an end.

Where the process, or the host, has no descriptor left, it waits and says so once: a listener with a connection that
cannot be accepted stays readable, and to try again at once would be all that the process does.
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
"""Accepted before those that are connected are read again: who has sent a request is not pushed out unread."""
AGAIN_S: Final = 0.5
BUFFER: Final = 128 << 10
"""Bytes that the kernel keeps of an answer: without a limit it is megabytes for each that does not read."""
USED_UP: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Take = Callable[[socket.socket], Awaitable[object]]
"""Serves a connection; it owns the socket then."""


async def accept(listener: socket.socket, places: Places, take: Take) -> None:
    """Accept until cancelled."""
    is_said = False
    while True:
        await anyio.wait_readable(listener)
        problem = await _accept_some(listener, places, take)
        if problem is None:
            is_said = False
            continue
        if not is_said:
            is_said = True
            log.warning("status.not_accepted", error=problem.strerror, connections=len(places))
        await anyio.sleep(AGAIN_S)


async def _accept_some(listener: socket.socket, places: Places, take: Take) -> OSError | None:
    """Accept what waits; give the error that says that nothing more can be accepted for now."""
    for _ in range(AT_ONCE):
        if not places.make_room():
            await places.changed()
            break
        try:
            accepted, _ = listener.accept()
        except OSError as error:
            # Any other is of one connection, which is gone already, or there is none: see accept(2).
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
