"""Ports in a real Open vSwitch."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from bringup.daemon.errors import chain_of
from bringup.drivers.base import VirtualInterfacePlugError
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedNotMet, NeedState
from bringup.drivers.network.commands import CommandRefused
from bringup.drivers.network.ovs import DOES_NOT_RUN
from bringup.drivers.network.ovsdb import messages_in
from support.frames import Tap, arp, reaches
from support.network import (
    GuestOf,
    a_network,
    a_vif,
    an_ovs_vif,
    device_of,
    hybrid,
    ip_of,
    links,
    mac_of,
    names,
    port_of,
    run,
)
from support.open_vswitch import Switch, an_open_vswitch
from support.records import uuid_of
from support.surroundings import Within, nobody

pytestmark = pytest.mark.anyio


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[Switch]:
    with an_open_vswitch(tmp_path) as running:
        yield running


def ids(number: int, instance: int = 1) -> dict[str, str]:
    return {
        "iface-id": port_of(number),
        "iface-status": "active",
        "attached-mac": mac_of(number),
        "vm-uuid": uuid_of(instance),
    }


async def test_a_port_that_is_ours_to_make_is_there_before_its_device(switch: Switch) -> None:
    async with a_network(filters=False, ovsdb=switch.database) as network:
        await network.plug_vifs(GuestOf([an_ovs_vif(1)]))
    assert switch.port(device_of(1)) == {"external_ids": ids(1), "type": "", "options": {}, "mtu_request": []}
    # Without flows it forwards nothing: as Neutron's agent makes it.
    assert switch.rows("Bridge", "name", "fail_mode", "datapath_type") == [
        {"name": "br-int", "fail_mode": "secure", "datapath_type": "netdev"}
    ]


async def test_where_libvirt_makes_the_port_only_the_bridge_is_made(switch: Switch) -> None:
    async with a_network(filters=False, ovsdb=switch.database, ovs_bridge="br-mine") as network:
        vif = an_ovs_vif(1, delegate_create=False)
        await network.plug_vifs(GuestOf([vif | {"network": {**vif["network"], "bridge": None}}]))
    assert switch.vsctl("list-br").split() == ["br-mine"]
    assert switch.ports("br-mine") == set()


async def test_a_bridge_and_a_port_that_are_there_stay_as_they_are(switch: Switch) -> None:
    switch.vsctl("add-br", "br-int", "--", "set", "Bridge", "br-int", "datapath_type=netdev")
    switch.vsctl("add-port", "br-int", device_of(1), "tag=7")
    async with a_network(filters=False, ovsdb=switch.database) as network:
        for _ in range(2):
            await network.plug_vifs(GuestOf([an_ovs_vif(1)]))
    assert switch.rows("Bridge", "name", "fail_mode") == [{"name": "br-int", "fail_mode": []}]
    tags = {row["name"]: row["tag"] for row in switch.rows("Port", "name", "tag")}
    assert tags[device_of(1)] == 7, "the VLAN that Neutron's agent gave it"
    assert switch.port(device_of(1))["external_ids"] == ids(1)


async def test_a_port_is_in_no_network_before_neutron_has_put_it_into_one(switch: Switch) -> None:
    async with a_network(filters=False, ovsdb=switch.database, isolates_vifs=True) as network:
        guest = GuestOf([an_ovs_vif(1), an_ovs_vif(2, details=hybrid()), an_ovs_vif(3, bridge="tbr-5036bff2-3")])
        await network.plug_vifs(guest)
        tags = {row["name"]: (row["tag"], row["vlan_mode"]) for row in switch.rows("Port", "name", "tag", "vlan_mode")}
        assert tags[device_of(1)] == tags[f"qvo{port_of(2)}"[:14]] == (4095, "trunk")
        # A trunk's own ports have their VLANs.
        assert tags[device_of(3)] == ([], [])

        switch.vsctl("set", "Port", device_of(1), "tag=7", "--", "clear", "Port", device_of(1), "vlan_mode", "trunks")
        await network.plug_vifs(guest)
        after = {row["name"]: row["tag"] for row in switch.rows("Port", "name", "tag")}
        assert after[device_of(1)] == 7


async def test_a_linux_bridge_stands_before_open_vswitch_where_nova_wants_one(switch: Switch) -> None:
    qbr, qvb, qvo = (f"{prefix}{port_of(1)}"[:14] for prefix in ("qbr", "qvb", "qvo"))
    guest = GuestOf([an_ovs_vif(1, details=hybrid(), delegate_create=False)])
    async with a_network(filters=False, ovsdb=switch.database) as network:
        await network.plug_vifs(guest)
        first = links()
        assert first[qvb]["master"] == qbr
        assert {first[name]["mtu"] for name in (qbr, qvb, qvo)} == {1442}
        assert all("UP" in first[name]["flags"] for name in (qbr, qvb, qvo))
        assert switch.ports("br-int") == {qvo}
        assert switch.port(qvo)["external_ids"] == ids(1)

        await network.plug_vifs(guest)
        assert {name: link["ifindex"] for name, link in links().items()} == {n: x["ifindex"] for n, x in first.items()}

        # Killed between the pair and its port, or a port that somebody took away.
        switch.vsctl("del-port", qvo)
        await network.plug_vifs(guest)
        assert switch.ports("br-int") == {qvo}


async def test_packets_go_from_guest_to_guest_through_linux_bridges_and_switch(switch: Switch) -> None:
    switch.vsctl("add-br", "br-int", "--", "set", "Bridge", "br-int", "datapath_type=netdev")
    sender, receiver = Tap.open(device_of(1)), Tap.open(device_of(2))
    async with a_network(filters=False, ovsdb=switch.database) as network:
        await network.plug_vifs(GuestOf([an_ovs_vif(number, details=hybrid()) for number in (1, 2)]))
        assert reaches(sender, receiver, arp(mac_of(1), ip=ip_of(1)))


async def test_a_vhost_user_port_has_its_socket_and_asks_for_its_mtu(switch: Switch) -> None:
    details = {"vhostuser_ovs_plug": True, "vhostuser_mode": "server", "vhostuser_socket": "/run/vhost/vhu1"}
    guest = GuestOf([an_ovs_vif(1, type="vhostuser", details=details)])
    async with a_network(filters=False, ovsdb=switch.database) as network:
        await network.plug_vifs(guest)
    vhu = f"vhu{port_of(1)}"[:14]
    assert switch.port(vhu) == {
        "external_ids": ids(1),
        "type": "dpdkvhostuserclient",
        "options": {"vhost-server-path": "/run/vhost/vhu1"},
        "mtu_request": 1442,
    }


async def test_one_port_that_cannot_be_keeps_no_other_guest_from_its_own(switch: Switch) -> None:
    switch.vsctl("add-br", "br-other", "--", "set", "Bridge", "br-other", "datapath_type=netdev")
    switch.vsctl("add-port", "br-other", device_of(5))
    failed = {}
    async with a_network(filters=False, ovsdb=switch.database) as network:

        async def plug(number: int) -> None:
            try:
                await network.plug_vifs(GuestOf([an_ovs_vif(number)], uuid=uuid_of(number)))
            except VirtualInterfacePlugError as error:
                failed[number] = error

        async with anyio.create_task_group() as tasks:
            for number in range(1, 21):
                tasks.start_soon(plug, number)
    assert list(failed) == [5]
    what = f"VIF {port_of(5)} (device {device_of(5)}) of instance {uuid_of(5)}"
    assert str(failed[5]) == f"cannot plug {what} into Open vSwitch"
    assert isinstance(failed[5].__cause__, CommandRefused)
    assert "actually attached to bridge br-other" in str(failed[5].__cause__)
    assert switch.ports("br-int") == {device_of(number) for number in range(1, 21) if number != 5}


async def test_nothing_is_left_of_a_guest_that_is_forgotten(switch: Switch) -> None:
    mine = GuestOf([an_ovs_vif(1), an_ovs_vif(2, details=hybrid())])
    others = GuestOf([an_ovs_vif(3), an_ovs_vif(4, details=hybrid())], uuid=uuid_of(2))
    async with a_network(filters=False, ovsdb=switch.database) as network:
        await network.plug_vifs(others)
        before = names(), switch.ports("br-int")
        await network.plug_vifs(mine)
        # Its record has lost the hybrid one.
        await network.forget(GuestOf([an_ovs_vif(1)]))
        assert (names(), switch.ports("br-int")) == before
        await network.forget(mine)
        assert (names(), switch.ports("br-int")) == before

        # Killed after the port was taken away and before the pair was.
        await network.plug_vifs(mine)
        switch.vsctl("del-port", f"qvo{port_of(2)}"[:14])
        await network.forget(mine)
        assert (names(), switch.ports("br-int")) == before


async def test_a_port_that_libvirt_made_before_the_host_died_goes_too(switch: Switch) -> None:
    guest = GuestOf([an_ovs_vif(1, delegate_create=False)])
    async with a_network(filters=False, ovsdb=switch.database) as network:
        await network.plug_vifs(guest)
        for number in (1, 2):
            made = f'external_ids:vm-id="{uuid_of(number)}"'
            switch.vsctl("add-port", "br-int", device_of(number), "--", "set", "Interface", device_of(number), made)
        await network.forget(guest)
    assert switch.ports("br-int") == {device_of(2)}


async def test_the_bridge_of_a_trunk_forwards_by_itself_and_goes_with_its_guest(switch: Switch) -> None:
    guest = GuestOf([an_ovs_vif(1, bridge="tbr-5036bff2-3")])
    async with a_network(filters=False, ovsdb=switch.database) as network:
        await network.plug_vifs(guest)
        assert switch.rows("Bridge", "name", "fail_mode") == [{"name": "tbr-5036bff2-3", "fail_mode": []}]
        assert switch.port(device_of(1))["external_ids"] == ids(1) | {"bridge_name": "tbr-5036bff2-3"}
        for _ in range(2):
            await network.forget(guest)
            assert switch.vsctl("list-br") == ""


async def needs_of_a_plug(guest: GuestOf, **options: Any) -> tuple[Need, ...]:
    """Plug a guest, which must not work, and tell what was lacking."""
    async with a_network(filters=False, **options) as network:
        with pytest.raises(NeedNotMet) as raised:
            await network.plug_vifs(guest)
    assert "cancel" not in chain_of(raised.value)
    return raised.value.needs


@pytest.mark.usefixtures("switch")
@pytest.mark.parametrize("address", ["unix:{folder}/away.sock", "tcp:127.0.0.1:1", "tcp:[::1]:1"])
async def test_a_database_that_is_away_is_the_hosts_trouble(tmp_path: Path, address: str) -> None:
    (need,) = await needs_of_a_plug(GuestOf([an_ovs_vif(1)]), ovsdb=address.format(folder=tmp_path))
    assert (need.kind, need.name, need.state) == (NeedKind.NETWORK, "Open vSwitch", NeedState.ABSENT)
    assert need.met_by is MetBy.HOST
    assert "database connection failed" in need.why
    assert need.why.endswith("start it (Debian: systemctl start openvswitch-switch)")


async def test_a_database_that_lets_nobody_in_wants_an_operator(
    switch: Switch,
) -> None:
    script = f"import sys; sys.path[:0] = {sys.path!r}\n{LOOK.format(database=switch.database)}"
    said = run(*Within(nobody).command, sys.executable, "-c", script)
    assert said.startswith("person ")
    assert "Permission denied" in said
    assert "let the daemon's user use the socket of its database" in said


@pytest.mark.parametrize("hybrid_plug", [True, False])
async def test_a_switch_that_is_down_is_reported_at_once_and_nothing_is_written_into_its_database(
    switch: Switch, *, hybrid_plug: bool
) -> None:
    switch.vsctl("add-br", "br-int", "--", "set", "Bridge", "br-int", "datapath_type=netdev")
    switch.stop_switch()
    details = hybrid() if hybrid_plug else {"datapath_type": "netdev"}
    with anyio.fail_after(60):
        (need,) = await needs_of_a_plug(GuestOf([an_ovs_vif(1, details=details)]), ovsdb=switch.database, deadline_s=60)
    assert need == Need(kind=NeedKind.NETWORK, name="Open vSwitch", state=NeedState.ABSENT, why=DOES_NOT_RUN)
    assert switch.ports("br-int") == set()


async def test_a_guest_is_not_taken_apart_while_the_switch_is_down(switch: Switch) -> None:
    guest = GuestOf([an_ovs_vif(1, details=hybrid())])
    async with a_network(filters=False, ovsdb=switch.database) as network:
        await network.plug_vifs(guest)
        before = names()
        switch.stop_switch()
        with pytest.raises(NeedNotMet):
            await network.forget(guest)
        assert names() == before


async def test_a_switch_that_hangs_costs_the_deadline(switch: Switch) -> None:
    with switch.hanging():
        (need,) = await needs_of_a_plug(GuestOf([an_ovs_vif(1)]), ovsdb=switch.database, deadline_s=1)
    assert (need.name, need.state) == ("Open vSwitch", NeedState.UNVERIFIED), need.why
    assert need.why == "ovs-vsctl did not end within 1 s"


async def test_without_open_vswitch_it_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (need,) = await needs_of_a_plug(GuestOf([an_ovs_vif(1)]))
    assert (need.state, need.met_by) == (NeedState.ABSENT, MetBy.PERSON)
    assert need.why.endswith("install it (Debian: package openvswitch-switch)")


async def test_a_look_tells_of_the_switch_only_where_a_guest_needs_it(switch: Switch) -> None:
    in_ovs, elsewhere = GuestOf([an_ovs_vif(1)]), GuestOf([a_vif(2)])
    async with a_network(filters=False, ovsdb=switch.database) as network:
        before = switch.vsctl("show"), switch.vsctl("get", "Open_vSwitch", ".", "next_cfg")
        assert await network.check([elsewhere]) == []
        (met,) = await network.check([elsewhere, in_ovs])
        assert (met.name, met.state) == ("Open vSwitch", NeedState.MET)
        assert (switch.vsctl("show"), switch.vsctl("get", "Open_vSwitch", ".", "next_cfg")) == before
        switch.stop_switch()
        assert [need.why for need in await network.check([in_ovs])] == [DOES_NOT_RUN]
        assert await network.check([elsewhere]) == []
        switch.start()
        assert [need.state for need in await network.check([in_ovs])] == [NeedState.MET]


LOOK = """
import anyio
from support.network import GuestOf, a_network, an_ovs_vif
async def main():
    async with a_network(filters=False, ovsdb="{database}") as network:
        for need in await network.check([GuestOf([an_ovs_vif(1)])]):
            print(need.met_by.value, need.why)
anyio.run(main)
"""
CREATE_TAP = {"ovs_create_tap": True, "port_filter": True, "datapath_type": "netdev"}


@pytest.mark.parametrize("bridge", ["br-int", "tbr-5036bff2-3"])
@pytest.mark.parametrize("several_queues", [False, True])
async def test_a_tap_is_made_with_its_port_where_the_binding_reports_it(
    switch: Switch, *, several_queues: bool, bridge: str
) -> None:
    guest = GuestOf([an_ovs_vif(1, bridge=bridge, details=CREATE_TAP)])
    macs = frozenset({mac_of(1)}) if several_queues else frozenset[str]()
    async with a_network(filters=False, ovsdb=switch.database) as network:
        await network.make_ready(guest, several_queues=macs)
        made = links()[device_of(1)]
        # The guest's own MAC, not libvirt's fe:.
        assert (made["address"], made["mtu"], "UP" in made["flags"]) == (mac_of(1), 1442, True)
        assert made["linkinfo"]["info_data"]["type"] == "tap"
        assert made["linkinfo"]["info_data"]["multi_queue"] is several_queues
        assert device_of(1) not in run("ip", "-6", "address", "show"), "it would be the guest's own address"
        assert switch.ports(bridge) == {device_of(1)}
        assert switch.port(device_of(1))["external_ids"].items() >= ids(1).items()

        await network.make_ready(guest, several_queues=macs)
        assert links()[device_of(1)]["ifindex"] == made["ifindex"]
        for _ in range(2):
            await network.forget(guest)
            assert device_of(1) not in names()
            assert device_of(1) not in switch.vsctl("show")


async def test_a_tap_that_a_kill_has_left_half_made_gets_the_rest(switch: Switch) -> None:
    run("ip", "tuntap", "add", device_of(1), "mode", "tap")
    async with a_network(filters=False, ovsdb=switch.database) as network:
        await network.make_ready(GuestOf([an_ovs_vif(1, details=CREATE_TAP)]))
    made = links()[device_of(1)]
    assert (made["address"], made["mtu"], "UP" in made["flags"]) == (mac_of(1), 1442, True)
    assert device_of(1) not in run("ip", "-6", "address", "show")


async def test_the_tap_of_a_guest_that_runs_stays_as_it_is(switch: Switch) -> None:
    guest = GuestOf([an_ovs_vif(1, details=CREATE_TAP)])
    async with a_network(filters=False, ovsdb=switch.database) as network:
        await network.make_ready(guest)
        before = links()[device_of(1)]
        Tap.open(device_of(1))
        await network.plug_vifs(guest)
        assert links()[device_of(1)]["ifindex"] == before["ifindex"]


async def test_an_mtu_that_was_changed_is_corrected(switch: Switch) -> None:
    guest = GuestOf([an_ovs_vif(1, details=hybrid())])
    qvb = f"qvb{port_of(1)}"[:14]
    async with a_network(filters=False, ovsdb=switch.database) as network:
        await network.plug_vifs(guest)
        run("ip", "link", "set", qvb, "mtu", "1400", "down")
        await network.plug_vifs(guest)
    assert links()[qvb]["mtu"] == 1442
    assert "UP" in links()[qvb]["flags"]


async def test_a_switch_that_comes_is_reported_to_who_waits_for_it(switch: Switch) -> None:
    """Its database comes first; the switch itself changes nothing that was configured."""
    switch.vsctl("add-br", "br-int", "--", "set", "Bridge", "br-int", "datapath_type=netdev")
    switch.stop_switch()
    async with a_network(filters=False, ovsdb=switch.database) as network:
        [missing] = await network.check([GuestOf([an_ovs_vif(1)])])
        reported = Reports()
        async with anyio.create_task_group() as group:
            group.start_soon(network.watch, [missing], reported)
            await anyio.to_thread.run_sync(switch.stop_database)
            await anyio.to_thread.run_sync(switch.start_database)
            await reported.more()
            await anyio.to_thread.run_sync(switch.start)
            await reported.more()
            group.cancel_scope.cancel()
        assert {need.name for need in reported.needs} == {"Open vSwitch"}
        [found] = await network.check([GuestOf([an_ovs_vif(1)])])
        assert found.state is NeedState.MET


@pytest.mark.parametrize("database", ["unix:/nonexistent/db.sock", "ssl:127.0.0.1:6640"])
async def test_only_a_need_of_a_switch_is_watched_and_not_over_tls(database: str) -> None:
    of_switch, other = (
        Need(kind=NeedKind.NETWORK, name=name, state=NeedState.ABSENT) for name in ("Open vSwitch", "br-late")
    )
    async with a_network(filters=False, ovsdb=database) as network:
        assert (network.watches(of_switch), network.watches(other)) == (database.startswith("unix"), False)


class Reports:
    """What was reported."""

    def __init__(self) -> None:
        self.needs: list[Need] = []
        self._more = anyio.Event()

    def __call__(self, need: Need) -> None:
        self.needs.append(need)
        self._more.set()

    async def more(self) -> None:
        """Wait for a report after those before."""
        with anyio.fail_after(60):
            await self._more.wait()
        self._more = anyio.Event()


@pytest.mark.parametrize(
    ("received", "messages", "rest"),
    [
        (b"", 0, b""),
        (b'{"id": 1}{"id": 2}\n{"id', 2, b'{"id'),
        ('{"name": "ä"}'.encode()[:-3], 0, '{"name": "ä"}'.encode()[:-3]),
        (b"[1] {}", 1, b""),
    ],
)
def test_messages_of_a_database_follow_each_other(received: bytes, messages: int, rest: bytes) -> None:
    found, left = messages_in(received)
    assert (len(found), left) == (messages, rest)
