"""Ports in Open vSwitch: their arguments for ``ovs-vsctl`` (pure), and one transaction for many of them.

An existing port stays: Neutron's agent keeps its VLAN on it.  Before a change it is checked whether the switch itself
runs (:mod:`bringup.drivers.network.ovsdb`).
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import anyio

from bringup.drivers.batching import Gathering, in_halves
from bringup.drivers.errors import DriverError
from bringup.drivers.needs import Need, NeedKind, NeedState
from bringup.drivers.network.commands import Command, CommandRefused, CommandUnavailable
from bringup.drivers.network.ovsdb import DatabaseSilent, default_address, may_connect, switch_runs, watch_database
from bringup.drivers.network.rules.vif_types import OvsPort

NAME: Final = "Open vSwitch"
UNAVAILABLE: Final = re.compile(r"database connection failed|connection attempt failed|Permission denied")
REMEDY: Final = "start it (Debian: systemctl start openvswitch-switch)"
DOES_NOT_RUN: Final = f"its database answers and ovs-vswitchd does not run; {REMEDY}"
CHECK_S: Final = 5.0
"""Deadline of the check whether the switch runs: it takes milliseconds."""

OWNERS = ("vm-uuid", "vm-id")
"""Keys of the instance's UUID: of Nova and bringup, and of libvirt."""
DEAD_VLAN = ("tag=4095", "vlan_mode=trunk", "trunks=4095")
"""No packet of the port leaves: Neutron's dead VLAN, as os-vif sets it."""
MOST = 200
"""Most ports in a transaction: it is a command line."""


def arguments_for(ports: Iterable[OvsPort], bridges: frozenset[str], *, isolated: bool = False) -> list[str]:
    """Return the transaction that makes ports ready if ``bridges`` exist already; empty: nothing is missing.

    ``isolated``: a new port is in no network before Neutron's agent has moved it into its own.
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
    # os-vif creates it too.
    yield from ("--", "--may-exist", "add-br", port.bridge)
    values = [] if port.datapath_type is None else [f"datapath_type={port.datapath_type}"]
    if not port.is_trunk:
        # As Neutron's agent and OVN create it: before their flows exist, a bridge that forwards by itself would join
        # the tenants' networks.  The bridge of a trunk has no flows, and carries one port.
        values.append("fail_mode=secure")
    if values:
        yield from ("--", "set", "Bridge", port.bridge, *values)


def _port(port: OvsPort, name: str, *, isolated: bool) -> Iterator[str]:
    # The arguments after the name apply to a new port only: an existing one keeps its VLAN.
    dead = DEAD_VLAN if isolated else ()
    yield from ("--", "--may-exist", "add-port", port.bridge, name, *dead, "--", "set", "Interface", name)
    yield f'external_ids:iface-id="{port.interface_id}"'
    yield "external_ids:iface-status=active"
    yield f'external_ids:attached-mac="{port.mac}"'
    yield f'external_ids:vm-uuid="{port.instance}"'
    if port.is_trunk:
        # Neutron's cleanup uses it.
        yield f'external_ids:bridge_name="{port.bridge}"'
    if port.type is not None:
        yield f"type={port.type}"
    for key, value in port.options:
        yield f"options:{key}={json.dumps(value)}"
    if port.mtu_request is not None:
        yield f"mtu_request={port.mtu_request}"


def ports_of(instance: str, answer: str) -> list[str]:
    """Return the names of an instance's ports in the output of ``ovs-vsctl --format=json list``.

    Ports that libvirt created survive a crash of the host, as the database does.
    """
    return [name for name, (_, ids) in json.loads(answer)["data"] if instance in (dict(ids).get(key) for key in OWNERS)]


class OpenVSwitch:
    """Open vSwitch of this host, through ``ovs-vsctl``."""

    def __init__(self, *, database: str | None, deadline_s: float, isolates: bool = False) -> None:
        """Store the address of the database (``unix:PATH``; None: ovs-vsctl's default) and the deadline of a call.

        ``isolates``: new ports are in no network until Neutron's agent has moved them into one.
        """
        self._isolates = isolates
        where = () if database is None else (f"--db={database}",)
        self._address = database or default_address()
        self._check_s = min(deadline_s, CHECK_S)
        self._command = Command(
            program="ovs-vsctl",
            package="openvswitch-switch",
            arguments=where,
            deadline_s=deadline_s,
            service=NAME,
            unavailable_text=UNAVAILABLE,
            remedy=REMEDY,
            remedy_access="let the daemon's user use the socket of its database (openstack.conf of its unit says how)",
        )
        self._gathering = Gathering[OvsPort, None](self._make_ready, failure=DriverError, repeatable=True, most=MOST)

    async def check(self) -> Need:
        """Return whether database and switch answer, as a need; nothing is changed."""
        try:
            await self._bridges()
        except CommandUnavailable as error:
            return error.needs[0]
        return Need(kind=NeedKind.NETWORK, name=NAME, state=NeedState.MET)

    @property
    def can_be_watched(self) -> bool:
        """Whether its database can be watched: not with TLS."""
        return may_connect(self._address)

    async def watch(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` when database or switch may answer by now, until cancelled."""
        await watch_database(self._address, changed)

    async def ensure(self, port: OvsPort) -> None:
        """Make a port and its bridge ready; requests that arrive meanwhile share a transaction.

        :raises DriverError: that failed.
        """
        await self._gathering.submit(port)

    async def forget(self, instance: str, trunks: Iterable[str] = ()) -> list[str]:
        """Delete the ports of an instance and the bridges of its trunks; return the names of the ports.

        :raises CommandUnavailable: Open vSwitch is unavailable.
        """
        await self._require_switch()
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
            words = arguments_for(some, bridges, isolated=self._isolates)
            if words:
                await self._command.run(words)

        return await in_halves(ports, transact, refused=CommandRefused)

    async def _bridges(self) -> frozenset[str]:
        """Return the names of the existing bridges.

        :raises CommandUnavailable: Open vSwitch is unavailable.
        """
        found = frozenset((await self._command.run(["list-br"])).split())
        await self._require_switch()
        return found

    async def _require_switch(self) -> None:
        """Ensure, before anything is changed, that the switch carries it out: ovs-vsctl would wait for it.

        :raises CommandUnavailable: it does not run.
        """
        with anyio.move_on_after(self._check_s) as scope:
            try:
                runs = await switch_runs(self._address)
            except DatabaseSilent as error:
                raise self._command.service_unavailable(str(error)) from None
            if runs is False:
                raise self._command.unavailable(DOES_NOT_RUN, NeedState.ABSENT)
        if scope.cancelled_caught:
            raise self._command.unavailable(f"its database did not answer within {self._check_s:g} s")
