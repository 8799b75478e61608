"""Pool of connections to one hypervisor: opened when they are needed, and again when they broke.

A call has a thread, a deadline and a connection for itself: before libvirt 10.0 a client may sleep though its answer
has arrived if two threads share a connection (its "race in waking up client event loop"; seen here with 9.0 as starts
that took until the next keepalive).  The daemon's ``max_client_requests`` is a limit per connection, so it is never
reached.  A call that hangs keeps those three for as long as it hangs, and nothing else.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

import anyio
import structlog

from bringup.drivers.libvirt.binding import Connection
from bringup.drivers.libvirt.errors import CallTimedOut, NotConnected, meaning_of
from bringup.drivers.libvirt.slots import Slots
from bringup.drivers.libvirt.threads import Abandoned, in_thread
from bringup.drivers.libvirt_options import LibvirtOptions

log = structlog.get_logger()

T = TypeVar("T")
Work = Callable[[Connection, Abandoned], T]

KEEPALIVE_COUNT: Final = 3


class PooledConnection:
    """One connection; its methods block."""

    def __init__(self, options: LibvirtOptions, libvirt: Any) -> None:
        """Store the options; nothing is opened yet."""
        self._options = options
        self._libvirt = libvirt
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    def connection(self) -> Connection:
        """Return the connection, opened again if it broke.

        :raises libvirtError: it cannot be opened.
        """
        with self._lock:
            if self._connection is not None and not self._connection.isAlive():
                self._disconnect()
            if self._connection is None:
                self._connection = self._open()
            return self._connection

    def close(self) -> None:
        """Close the connection; it is opened again on the next use."""
        with self._lock:
            self._disconnect()

    def _open(self) -> Connection:
        opened: Connection = self._libvirt.open(self._options.uri)
        # A hypervisor in this process (test:///) has nothing to keep alive.
        with suppress(self._libvirt.libvirtError):
            opened.setKeepAlive(self._options.keepalive_interval, KEEPALIVE_COUNT)
        return opened

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(self._libvirt.libvirtError):
                connection.close()


class ConnectionPool:
    """A few connections, each with one call at a time; their number may change at any time."""

    def __init__(self, options: LibvirtOptions, libvirt: Any, *, count: int) -> None:
        """Allow ``count`` connections; nothing is opened yet."""
        self._options = options
        self._libvirt = libvirt
        self._count = count
        self._connections: list[PooledConnection] = []
        self._idle: list[PooledConnection] = []
        self._slots = Slots(count, "connection")

    def resize(self, count: int) -> None:
        """Allow ``count`` connections from now on; a surplus one is closed when its call has ended."""
        self._count = count
        self._slots.resize(count)
        self._close_surplus()

    async def call(self, what: str, work: Work[T], *, deadline_s: float) -> T:
        """Run ``work`` with a connection, in a thread; waiting for a free connection is not part of the deadline.

        :raises CallTimedOut: it has not ended in time; it may still take effect.
        :raises NotSent: no connection became free; it has no effect.
        :raises ConnectionLost: there is no connection, or it broke.
        :raises DriverError: libvirt refused; of a class that callers react to.
        """
        slot = await self._slots.acquire(what, patience_s=deadline_s)
        pooled = self._idle_or_new()

        def at_end() -> None:
            self._idle.append(pooled)
            self._close_surplus()
            self._slots.release(slot)

        with anyio.move_on_after(deadline_s):
            try:
                return await in_thread(lambda abandoned: self._run(pooled, work, abandoned), at_end=at_end)
            except self._libvirt.libvirtError as error:
                raise meaning_of(error, self._libvirt)(f"cannot {what}") from error
        hanging = self._slots.in_use
        log.warning("libvirt.no_answer", what=what, deadline_s=deadline_s, under_way=hanging)
        raise CallTimedOut(
            f"cannot {what}: libvirt has not answered in {deadline_s:g} s ({hanging} calls are under way); "
            "its effect is unknown"
        )

    def _idle_or_new(self) -> PooledConnection:
        """Return the connection that was used last, so that others need not be opened, or else a new one."""
        if self._idle:
            return self._idle.pop()
        connection = PooledConnection(self._options, self._libvirt)
        self._connections.append(connection)
        return connection

    def _close_surplus(self) -> None:
        while self._idle and len(self._connections) > self._count:
            # The one that was idle for the longest time.
            connection = self._idle.pop(0)
            self._connections.remove(connection)
            # Closing is a call like any other: it may take long, and nobody waits for it.
            threading.Thread(target=connection.close, name="libvirt-close", daemon=True).start()

    def close(self) -> None:
        """Close the connections; blocks."""
        for connection in self._connections:
            connection.close()

    def _run(self, pooled: PooledConnection, work: Work[T], abandoned: Abandoned) -> T:
        try:
            connection = pooled.connection()
        except self._libvirt.libvirtError as error:
            raise NotConnected("cannot connect to libvirt") from error
        return work(connection, abandoned)
