"""Hears of changes of nftables, whoever makes them, from the kernel itself (nfnetlink's multicast group).

Not by ``nft monitor``: that is another process for as long as the daemon lives, and its text is not for programs.  What
was changed is not read: who is told looks for himself.
"""

import errno
import socket
import struct
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import anyio

NETLINK_NETFILTER: Final = 12
GROUP: Final = 1 << 6
"""``NFNLGRP_NFTABLES`` is the seventh."""
SUBSYSTEM: Final = 10
"""``NFNL_SUBSYS_NFTABLES``."""
BRIDGE: Final = 7
"""``NFPROTO_BRIDGE``: tables of other families are nobody's business here, and some change all the time."""
HEADER: Final = struct.Struct("=IHHII")
MOST_BYTES: Final = 1 << 16


class RuleChanges:
    """What the kernel says of tables for bridges, from when it is opened on."""

    def __init__(self) -> None:
        """Open nothing yet."""
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        """Listen; where the kernel does not let us, there is nothing to hear."""
        with suppress(OSError):
            found = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
            self._socket = found
            found.settimeout(0)
            found.bind((0, GROUP))
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Listen no more."""
        if self._socket is not None:
            self._socket.close()

    async def one(self) -> None:
        """Return when a table for bridges was changed; never where nothing can be heard."""
        if self._socket is None:
            await anyio.sleep_forever()
            return
        while True:
            await anyio.wait_readable(self._socket)
            try:
                if _drained(self._socket):
                    return
            except OSError:
                # It says nothing any more; who is told looks once, and by his clock from now on.
                self._socket.close()
                self._socket = None
                return


def _drained(found: socket.socket) -> bool:
    """Read all that is there; tell whether something of it is about bridges."""
    heard = False
    while True:
        try:
            heard |= is_about_bridges(found.recv(MOST_BYTES))
        except BlockingIOError:
            return heard
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            # More than there was room for: nobody knows what.
            heard = True


def is_about_bridges(messages: bytes) -> bool:
    """Tell whether one of these messages is about a table for bridges."""
    at = 0
    while at + HEADER.size < len(messages):
        length, kind, *_ = HEADER.unpack_from(messages, at)
        if kind >> 8 == SUBSYSTEM and messages[at + HEADER.size] == BRIDGE:
            return True
        if length < HEADER.size:
            return False
        at += (length + 3) & ~3
    return False
