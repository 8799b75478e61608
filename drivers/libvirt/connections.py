"""Connections to one hypervisor: opened when they are needed, opened again when they broke.

A call has a thread, a deadline and a connection, for itself alone: before libvirt 10.0 a client may sleep on an answer
that has come when two threads share a connection (its "race in waking up client event loop"; seen here with 9.0 as
starts that took until the next keepalive).  The daemon's ``max_client_requests`` is a limit a connection, so it is
never reached.  A call that hangs keeps those three for as long as it hangs, and nothing else.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

import anyio
import structlog

from bringup.drivers.libvirt.binding import Connection
from bringup.drivers.libvirt.errors import CallTimedOut, NotConnected, meaning_of
from bringup.drivers.libvirt.room import Room
from bringup.drivers.libvirt.threads import Abandoned, in_thread
from bringup.drivers.libvirt_options import LibvirtOptions

log = structlog.get_logger()

T = TypeVar("T")
Work = Callable[[Connection, Abandoned], T]

KEEPALIVE_COUNT: Final = 3


class Line:
    """One connection; its methods block."""

    def __init__(self, options: LibvirtOptions, libvirt: Any) -> None:
        """Open nothing yet."""
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
                self._let_go()
            if self._connection is None:
                self._connection = self._open()
            return self._connection

    def close(self) -> None:
        """Close it."""
        with self._lock:
            self._let_go()

    def _open(self) -> Connection:
        opened: Connection = self._libvirt.open(self._options.uri)
        # A hypervisor in this process (test:///) has nothing to keep alive.
        with suppress(self._libvirt.libvirtError):
            opened.setKeepAlive(self._options.keepalive_interval, KEEPALIVE_COUNT)
        return opened

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(self._libvirt.libvirtError):
                connection.close()


class Lines:
    """A few connections, each with one request at a time; how many may change at any time."""

    def __init__(self, options: LibvirtOptions, libvirt: Any, *, count: int) -> None:
        """Have ``count`` connections."""
        self._options = options
        self._libvirt = libvirt
        self._count = count
        self._lines: list[Line] = []
        self._idle: list[Line] = []
        self._room = Room(count, "connection")

    def resize(self, count: int) -> None:
        """Have ``count`` connections from now on; one too many is closed when its call has ended."""
        self._count = count
        self._room.resize(count)
        self._close_surplus()

    async def call(self, what: str, work: Work[T], *, deadline_s: float) -> T:
        """Do ``work`` with a connection, in a thread.

        Waiting for a free connection is not counted.

        :raises CallTimedOut: it has not ended in time; it may still have its effect.
        :raises NotSent: no connection became free; it has no effect.
        :raises ConnectionLost: there is no connection, or it broke.
        :raises DriverError: libvirt refused; a class of its own for what callers react to.
        """
        place = await self._room.enter(what, patience_s=deadline_s)
        line = self._take()

        def at_end() -> None:
            self._idle.append(line)
            self._close_surplus()
            self._room.leave(place)

        with anyio.move_on_after(deadline_s):
            try:
                return await in_thread(lambda abandoned: self._on(line, work, abandoned), at_end=at_end)
            except self._libvirt.libvirtError as error:
                raise meaning_of(error, self._libvirt)(f"cannot {what}") from error
        hanging = self._room.taken
        log.warning("libvirt.no_answer", what=what, deadline_s=deadline_s, under_way=hanging)
        raise CallTimedOut(
            f"cannot {what}: libvirt has not answered in {deadline_s:g} s ({hanging} calls are under way); "
            "what becomes of it is not known"
        )

    def _take(self) -> Line:
        """Take the line that was used last: the others need not be opened yet."""
        if self._idle:
            return self._idle.pop()
        line = Line(self._options, self._libvirt)
        self._lines.append(line)
        return line

    def _close_surplus(self) -> None:
        while self._idle and len(self._lines) > self._count:
            # The one that was not used for the longest time.
            line = self._idle.pop(0)
            self._lines.remove(line)
            # Closing is a call like any other: it may take its time, and nobody waits for it.
            threading.Thread(target=line.close, name="libvirt-close", daemon=True).start()

    def close(self) -> None:
        """Close the connections; blocks."""
        for line in self._lines:
            line.close()

    def _on(self, line: Line, work: Work[T], abandoned: Abandoned) -> T:
        try:
            connection = line.connection()
        except self._libvirt.libvirtError as error:
            raise NotConnected("cannot connect to libvirt") from error
        return work(connection, abandoned)
