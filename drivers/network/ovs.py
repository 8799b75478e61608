"""Ports in Open vSwitch: the words of ``ovs-vsctl`` for them (pure), and one transaction for many of them.

A port that is there stays: Neutron's agent keeps its VLAN on it.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import anyio
from anyio.abc import ByteStream

from bringup.drivers.batching import Gathering, in_halves
from bringup.drivers.errors import DriverError
from bringup.drivers.needs import Need, NeedKind, NeedState
from bringup.drivers.network.commands import Command, CommandRefused, CommandUnavailable
from bringup.drivers.network.rules.vif_types import OvsPort

LOCK = "ovs_vswitchd"
RUN_DIRECTORY = "/var/run/openvswitch"
LONGEST_ANSWER = 65536


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


NAME: Final = "Open vSwitch"
AWAY: Final = re.compile(r"database connection failed|connection attempt failed|Permission denied")
TO_DO: Final = "start it (Debian: systemctl start openvswitch-switch)"
DOES_NOT_RUN: Final = f"its database answers and ovs-vswitchd does not run; {TO_DO}"
LOOK_S: Final = 5.0
"""How long a look takes at most: it takes milliseconds."""

OWNERS = ("vm-uuid", "vm-id")
"""What Nova and we, and what libvirt, keep the instance's UUID by."""
DEAD_VLAN = ("tag=4095", "vlan_mode=trunk", "trunks=4095")
"""No packet of it leaves: Neutron's dead VLAN, as os-vif sets it."""
MOST = 200
"""Ports in a transaction: it is a command line."""


def words_for(ports: Iterable[OvsPort], bridges: frozenset[str], *, isolated: bool = False) -> list[str]:
    """Give the transaction that makes ports ready, where ``bridges`` are there already; empty: nothing is missing.

    ``isolated``: a port that is made here is in no network before Neutron's agent has put it into its own.
    """
    words: list[str] = []
    there = set(bridges)
    for port in ports:
        if port.bridge not in there:
            words += _bridge(port)
            there.add(port.bridge)
        if port.name is not None:
            words += _port(port, port.name, isolated=isolated and not port.is_trunk)
    return words


def _bridge(port: OvsPort) -> Iterator[str]:
    # os-vif makes it too.
    yield from ("--", "--may-exist", "add-br", port.bridge)
    values = [] if port.datapath_type is None else [f"datapath_type={port.datapath_type}"]
    if not port.is_trunk:
        # As Neutron's agent and OVN will make it: until their flows are there, a bridge that forwards by itself would
        # join the tenants' networks.  That of a trunk has no flows, and carries one port.
        values.append("fail_mode=secure")
    if values:
        yield from ("--", "set", "Bridge", port.bridge, *values)


def _port(port: OvsPort, name: str, *, isolated: bool) -> Iterator[str]:
    # What stands behind its name is for a port that is made: one that is there keeps its VLAN.
    dead = DEAD_VLAN if isolated else ()
    yield from ("--", "--may-exist", "add-port", port.bridge, name, *dead, "--", "set", "Interface", name)
    yield f'external_ids:iface-id="{port.interface_id}"'
    yield "external_ids:iface-status=active"
    yield f'external_ids:attached-mac="{port.mac}"'
    yield f'external_ids:vm-uuid="{port.instance}"'
    if port.is_trunk:
        # Neutron cleans up by it.
        yield f'external_ids:bridge_name="{port.bridge}"'
    if port.type is not None:
        yield f"type={port.type}"
    for key, value in port.options:
        yield f"options:{key}={json.dumps(value)}"
    if port.mtu_request is not None:
        yield f"mtu_request={port.mtu_request}"


def ports_of(instance: str, answer: str) -> list[str]:
    """Find the ports of an instance in what ``ovs-vsctl --format=json`` lists: names and external ids.

    Those that libvirt made outlive a host that died, as the database does.
    """
    return [name for name, (_, ids) in json.loads(answer)["data"] if instance in (dict(ids).get(key) for key in OWNERS)]


class OpenVSwitch:
    """The Open vSwitch of this host, by way of ``ovs-vsctl``."""

    def __init__(self, *, database: str | None, deadline_s: float, isolates: bool = False) -> None:
        """Take where the database listens (``unix:PATH``; None: where ovs-vsctl looks), and a deadline a call.

        ``isolates``: ports that are made are in no network until Neutron's agent has put them into one.
        """
        self._isolates = isolates
        where = () if database is None else (f"--db={database}",)
        self._address = database or default_address()
        self._look_s = min(deadline_s, LOOK_S)
        self._command = Command(
            program="ovs-vsctl",
            package="openvswitch-switch",
            arguments=where,
            deadline_s=deadline_s,
            service=NAME,
            away=AWAY,
            to_do=TO_DO,
            to_let_in="let the daemon's user use the socket of its database (openstack.conf of its unit says how)",
        )
        self._gathering = Gathering[OvsPort, None](self._make_ready, failure=DriverError, repeatable=True, most=MOST)

    async def look(self) -> Need:
        """Tell whether database and switch answer; nothing is changed."""
        try:
            await self._bridges()
        except CommandUnavailable as error:
            return error.needs[0]
        return Need(kind=NeedKind.NETWORK, name=NAME, state=NeedState.MET)

    async def ensure(self, port: OvsPort) -> None:
        """Make a port ready, and its bridge; what is asked for meanwhile shares a transaction.

        :raises DriverError: it could not be.
        """
        await self._gathering.submit(port)

    async def forget(self, instance: str, trunks: Iterable[str] = ()) -> list[str]:
        """Remove the ports of an instance and the bridges of its trunks; give the names of the ports.

        :raises CommandUnavailable: Open vSwitch is away.
        """
        await self._see_that_it_runs()
        listed = await self._command.run(["--format=json", "--columns=name,external_ids", "list", "Interface"])
        names = ports_of(instance, listed)
        words = [word for name in names for word in ("--", "--if-exists", "del-port", name)]
        words += [word for bridge in trunks for word in ("--", "--if-exists", "del-br", bridge)]
        if words:
            await self._command.run(words)
        return names

    async def _make_ready(self, ports: Sequence[OvsPort]) -> Sequence[Exception | None]:
        bridges = await self._bridges()

        async def transact(some: Sequence[OvsPort]) -> None:
            words = words_for(some, bridges, isolated=self._isolates)
            if words:
                await self._command.run(words)

        return await in_halves(ports, transact, refused=CommandRefused)

    async def _bridges(self) -> frozenset[str]:
        """Name the bridges that are there.

        :raises CommandUnavailable: Open vSwitch is away.
        """
        found = frozenset((await self._command.run(["list-br"])).split())
        await self._see_that_it_runs()
        return found

    async def _see_that_it_runs(self) -> None:
        """Find out, before anything is changed, that somebody will carry it out: ovs-vsctl waits for that.

        :raises CommandUnavailable: nobody will.
        """
        with anyio.move_on_after(self._look_s) as scope:
            try:
                runs = await switch_runs(self._address)
            except DatabaseSilent as error:
                raise self._command.is_away(str(error)) from None
            if runs is False:
                raise self._command.unavailable(DOES_NOT_RUN, NeedState.ABSENT)
        if scope.cancelled_caught:
            raise self._command.unavailable(f"its database did not answer within {self._look_s:g} s")
