"""Open vSwitch's database, asked what ``ovs-vsctl`` cannot ask: whether the switch runs, and what has changed.

The database answers long before the switch itself, and accepts changes that nobody carries out: ``ovs-vswitchd`` holds
a lock of its database while it is connected.  A request for that lock returns at once whether it is held, and changes
nothing of the database (RFC 7047, 4.1.8).
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NoReturn

import anyio
from anyio.abc import ByteStream

from bringup.drivers.unix_stream import UnixStream

LOCK = "ovs_vswitchd"
RUN_DIRECTORY = "/var/run/openvswitch"
LONGEST_ANSWER = 65536


class DatabaseSilent(Exception):
    """The database does not answer; the message has the cause."""


def default_address() -> str:
    """Return the address that ``ovs-vsctl`` uses by default."""
    return f"unix:{os.environ.get('OVS_RUNDIR', RUN_DIRECTORY)}/db.sock"


def may_connect(address: str) -> bool:
    """Check whether an address can be connected to without TLS."""
    return address.startswith(("unix:", "tcp:"))


async def connect(address: str) -> ByteStream:
    """Connect to the database at ``address``.

    :raises DatabaseSilent: it cannot be reached.
    """
    scheme, _, rest = address.partition(":")
    try:
        if scheme == "unix":
            return await UnixStream.connect(rest)
        host, _, port = rest.rpartition(":")
        return await anyio.connect_tcp(host.strip("[]"), int(port))
    except OSError as error:
        raise DatabaseSilent(f"cannot connect to {address}: {error.strerror or error}") from None


async def switch_runs(address: str) -> bool | None:
    """Check whether a switch is connected to the database at ``address``; None: this cannot be checked (TLS).

    :raises DatabaseSilent: it cannot be reached, or its answer is none of a database.
    """
    if not may_connect(address):
        return None
    async with await connect(address) as stream:
        try:
            await stream.send(json.dumps({"method": "lock", "params": [LOCK], "id": LOCK}).encode())
            answer = await _answer(stream)
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError, ValueError) as error:
            raise DatabaseSilent(
                f"{address} does not answer as a database: {str(error) or type(error).__name__}"
            ) from None
    result = answer.get("result")
    if not isinstance(result, dict) or "locked" not in result:
        raise DatabaseSilent(f"{address} does not answer as a database: {str(answer)[:200]}")
    # Closing the connection releases the lock.
    return not result["locked"]


async def _answer(stream: ByteStream) -> dict[str, Any]:
    """Read until the one answer is complete."""
    decoder = json.JSONDecoder()
    received = b""
    while len(received) < LONGEST_ANSWER:
        received += await stream.receive()
        try:
            found, _ = decoder.raw_decode(received.decode())
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
        break
    raise ValueError("no answer that can be read")


MONITORED: Final = {
    "Open_vSwitch": ("cur_cfg",),
    "Bridge": ("name",),
    # A switch that starts writes these, also where nothing has changed since it stopped.
    "Interface": ("name", "ofport", "link_state", "statistics"),
}
CONNECT_EVERY_S: Final = 1.0
LONGEST_MESSAGE: Final = 16 * 1024 * 1024


async def watch_database(address: str, changed: Callable[[], None]) -> NoReturn:
    """Call ``changed`` for each change of bridges and ports, and when the database answers again, until cancelled.

    OVSDB's ``monitor`` (RFC 7047, 4.1.5).  No lock is requested: it would keep the switch from starting.
    """
    tables = {table: {"columns": columns, "select": {"initial": False}} for table, columns in MONITORED.items()}
    was_silent = False
    while True:
        with suppress(DatabaseSilent, OSError, ValueError, anyio.EndOfStream, anyio.BrokenResourceError):
            async with await connect(address) as stream:
                await _send(stream, method="monitor", params=["Open_vSwitch", None, tables], id="monitor")
                if was_silent:
                    changed()
                await _follow(stream, changed)
        was_silent = True
        await anyio.sleep(CONNECT_EVERY_S)


async def _follow(stream: ByteStream, changed: Callable[[], None]) -> NoReturn:
    """Read until the database disconnects.

    :raises ValueError: it sends no JSON.
    """
    received = b""
    while len(received) < LONGEST_MESSAGE:
        received += await stream.receive()
        messages, received = messages_in(received)
        for message in messages:
            if message.get("method") == "update":
                changed()
            elif message.get("method") == "echo":
                # Otherwise the database disconnects an idle client.
                await _send(stream, id=message.get("id"), result=message.get("params"), error=None)
    raise ValueError("a message is too long")


async def _send(stream: ByteStream, **message: Any) -> None:
    await stream.send(json.dumps(message).encode())


def messages_in(received: bytes) -> tuple[list[dict[str, Any]], bytes]:
    """Return the complete messages, which follow each other without a separator, and the rest."""
    found = []
    with suppress(ValueError):
        text = received.decode()
        while text:
            message, end = json.JSONDecoder().raw_decode(text)
            text = text[end:].lstrip()
            received = text.encode()
            if isinstance(message, dict):
                found.append(message)
    return found, received
