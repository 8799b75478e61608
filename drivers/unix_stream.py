"""Stream over a UNIX socket whose waits may be cancelled at any moment.

Those of anyio's own, up to 4.16, may not: one that is cancelled in the step of the event loop in which the socket
becomes ready fails in the loop, which logs it as an error.  ``anyio.wait_readable`` has no such moment.
"""

import socket
from typing import Final, Self

import anyio
from anyio.abc import ByteStream

BUSY_S: Final = 0.01
"""Pause while the other side has no room for one more connection: there is no event for that."""


class UnixStream(ByteStream):
    """Connected UNIX socket as a stream of bytes; it is read by one task, and written by one."""

    def __init__(self, connection: socket.socket) -> None:
        """Wrap a connected socket, which is then closed with the stream."""
        connection.settimeout(0)
        self._socket = connection

    @classmethod
    async def connect(cls, path: str) -> Self:
        """Connect to the socket at a path.

        :raises OSError: that is refused.
        """
        stream = cls(socket.socket(socket.AF_UNIX))
        try:
            while True:
                try:
                    stream._socket.connect(path)
                except BlockingIOError:
                    await anyio.sleep(BUSY_S)
                else:
                    return stream
        except BaseException:
            stream._socket.close()
            raise

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return what has arrived, once something has."""
        while True:
            await anyio.wait_readable(self._socket)
            try:
                received = self._socket.recv(max_bytes)
            except BlockingIOError:
                continue
            except OSError as error:
                raise anyio.BrokenResourceError from error
            if not received:
                raise anyio.EndOfStream
            return received

    async def send(self, item: bytes) -> None:
        """Send all of the bytes."""
        rest = memoryview(item)
        while rest:
            await anyio.wait_writable(self._socket)
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise anyio.BrokenResourceError from error

    async def send_eof(self) -> None:
        """Send that nothing follows."""
        self._socket.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        """Close the socket."""
        self._socket.close()
