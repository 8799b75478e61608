"""Ports in Open vSwitch: the words of ``ovs-vsctl`` for them (pure), and one transaction for many of them.

A port that is there stays: Neutron's agent keeps its VLAN on it.
"""

import json
from collections.abc import Iterable, Iterator, Sequence

from bringup.drivers.network.commands import Command
from bringup.drivers.network.gathering import Gathering, in_halves
from bringup.drivers.network.wants import OvsPort

MOST = 200
"""Ports in a transaction: it is a command line."""


def words_for(ports: Iterable[OvsPort], bridges: frozenset[str]) -> list[str]:
    """Give the transaction that makes ports ready, where ``bridges`` are there already; empty: nothing is missing."""
    words: list[str] = []
    there = set(bridges)
    for port in ports:
        if port.bridge not in there:
            words += _bridge(port)
            there.add(port.bridge)
        if port.name is not None:
            words += _port(port, port.name)
    return words


def _bridge(port: OvsPort) -> Iterator[str]:
    # os-vif makes it too.  Secure, as Neutron's agent and OVN will make it: until their flows are there, a bridge that
    # forwards by itself would join the tenants' networks.
    yield from ("--", "--may-exist", "add-br", port.bridge, "--", "set", "Bridge", port.bridge, "fail_mode=secure")
    if port.datapath_type is not None:
        yield f"datapath_type={port.datapath_type}"


def _port(port: OvsPort, name: str) -> Iterator[str]:
    yield from ("--", "--may-exist", "add-port", port.bridge, name, "--", "set", "Interface", name)
    yield f'external_ids:iface-id="{port.interface_id}"'
    yield "external_ids:iface-status=active"
    yield f'external_ids:attached-mac="{port.mac}"'
    yield f'external_ids:vm-uuid="{port.instance}"'
    if port.type is not None:
        yield f"type={port.type}"
    for key, value in port.options:
        yield f"options:{key}={json.dumps(value)}"
    if port.mtu_request is not None:
        yield f"mtu_request={port.mtu_request}"


def ports_in(answer: str) -> list[str]:
    """Read the names in what ``ovs-vsctl --format=json --columns=name find Interface`` writes."""
    return [row[0] for row in json.loads(answer)["data"]]


class OpenVSwitch:
    """The Open vSwitch of this host, by way of ``ovs-vsctl``."""

    def __init__(self, *, database: str | None, deadline_s: float) -> None:
        """Take where the database listens (``unix:PATH``; None: where ovs-vsctl looks), and a deadline a call."""
        where = () if database is None else (f"--db={database}",)
        self._command = Command(
            program="ovs-vsctl", package="openvswitch-switch", arguments=where, deadline_s=deadline_s
        )
        self._gathering = Gathering(self._make_ready, most=MOST)

    async def ensure(self, port: OvsPort) -> None:
        """Make a port ready, and its bridge; what is asked for meanwhile shares a transaction.

        :raises DriverError: it could not be.
        """
        await self._gathering.do(port)

    async def forget(self, instance: str) -> list[str]:
        """Remove the ports that were made for an instance, and give their names."""
        found = ["--format=json", "--columns=name", "find", "Interface", f'external_ids:vm-uuid="{instance}"']
        names = ports_in(await self._command.run(found))
        if names:
            await self._command.run([word for name in names for word in ("--", "--if-exists", "del-port", name)])
        return names

    async def _make_ready(self, ports: Sequence[OvsPort]) -> Sequence[Exception | None]:
        bridges = frozenset((await self._command.run(["list-br"])).split())

        async def transact(some: Sequence[OvsPort]) -> None:
            words = words_for(some, bridges)
            if words:
                await self._command.run(words)

        return await in_halves(ports, transact)
