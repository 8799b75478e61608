"""Finds out whether Open vSwitch itself runs: its database answers long before, and takes changes that nobody makes.

``ovs-vswitchd`` holds a lock of its database for as long as it is connected.  Who asks for that lock is told at once
whether it is held, and nothing of the database is changed (RFC 7047, 4.1.8).  ``ovs-vsctl`` has no word for that.
"""

import json
import os
from typing import Any

import anyio
from anyio.abc import ByteStream

LOCK = "ovs_vswitchd"
RUN_DIRECTORY = "/var/run/openvswitch"
MOST_BYTES = 65536


class DatabaseSilent(Exception):
    """The database could not be asked; the text says why."""


def default_address() -> str:
    """Give where ``ovs-vsctl`` looks when it is told nothing."""
    return f"unix:{os.environ.get('OVS_RUNDIR', RUN_DIRECTORY)}/db.sock"


async def switch_runs(address: str) -> bool | None:
    """Tell whether a switch works with the database at ``address``; None: it cannot be asked in this way (TLS).

    :raises DatabaseSilent: it cannot be reached, or says something else.
    """
    scheme, _, rest = address.partition(":")
    try:
        if scheme == "unix":
            stream: ByteStream = await anyio.connect_unix(rest)
        elif scheme == "tcp":
            host, _, port = rest.rpartition(":")
            stream = await anyio.connect_tcp(host.strip("[]"), int(port))
        else:
            return None
    except OSError as error:
        raise DatabaseSilent(f"cannot connect to {address}: {error.strerror or error}") from None
    async with stream:
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
    # It is let go of with the connection.
    return not result["locked"]


async def _answer(stream: ByteStream) -> dict[str, Any]:
    """Read what comes until it is whole; there is one answer."""
    decoder = json.JSONDecoder()
    received = b""
    while len(received) < MOST_BYTES:
        received += await stream.receive()
        try:
            found, _ = decoder.raw_decode(received.decode())
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
        break
    raise ValueError("no answer that can be read")
