"""Bridges, taps and what goes wrong with them, on the real kernel."""

import sys
from pathlib import Path

import anyio
import pytest
from pyroute2 import NetlinkError

from bringup.daemon.errors import chain_of
from bringup.drivers.base import DriverError, VirtualInterfacePlugError
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedNotMet, NeedState
from support.frames import Tap
from support.network import BRIDGE, GuestOf, a_network, a_vif, device_of, links, names, port_of, run
from support.records import uuid_of

pytestmark = pytest.mark.anyio

PLUG_ONE = """
import anyio
from support.network import GuestOf, a_network, a_vif
async def main():
    async with a_network(filters=True) as network:
        await network.make_ready(GuestOf([a_vif(1)]))
anyio.run(main)
"""
WHAT = f"cannot plug VIF {port_of(1)} (device {device_of(1)}) of instance {uuid_of(1)}"


def without_leave_to_make_its_bridge(number: int = 1) -> dict[str, object]:
    vif = a_vif(number)
    return vif | {"network": vif["network"] | {"meta": {"mtu": 1442}}}


async def test_a_bridge_is_made_where_nova_would_and_once() -> None:
    async with a_network(filters=False) as network:
        for _ in range(2):
            await network.plug_vifs(GuestOf([a_vif(1)]))
            made = links()[BRIDGE]
            assert (made["mtu"], "UP" in made["flags"]) == (1442, True)
            assert made["linkinfo"]["info_kind"] == "bridge"
            data = made["linkinfo"]["info_data"]
            assert (data["stp_state"], data["forward_delay"], data["mcast_snooping"]) == (0, 0, 0)
            index = made["ifindex"]
        assert links()[BRIDGE]["ifindex"] == index
    assert BRIDGE not in run("ip", "-6", "address", "show"), "the host has no address there"


@pytest.mark.usefixtures("nftables")
async def test_a_bridge_has_no_address_where_only_netlink_may_report_it(tmp_path: Path) -> None:
    script = tmp_path / "plug.py"
    script.write_text(f"import sys; sys.path[:0] = {sys.path!r}\n{PLUG_ONE}")
    # As the unit has it: one capability, and the sysctls read-only.
    read_only = "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys"
    caps = "--bounding-set=-all,+net_admin --inh-caps=-all,+net_admin"
    run("unshare", "--mount", "sh", "-c", f"{read_only} && exec setpriv {caps} {sys.executable} {script}")
    assert "UP" in links()[BRIDGE]["flags"]
    assert BRIDGE not in run("ip", "-6", "address", "show")


async def test_a_bridge_that_a_kill_left_half_made_gets_the_rest() -> None:
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    async with a_network(filters=False) as network:
        await network.plug_vifs(GuestOf([a_vif(1)]))
    assert "UP" in links()[BRIDGE]["flags"]
    assert BRIDGE not in run("ip", "-6", "address", "show")


async def test_guests_that_share_a_bridge_may_all_be_the_first() -> None:
    async with a_network(filters=False) as network, anyio.create_task_group() as tasks:
        for number in range(1, 31):
            tasks.start_soon(network.plug_vifs, GuestOf([a_vif(number)], uuid=uuid_of(number)))
    assert names() == {BRIDGE}


async def test_a_bridge_that_nova_would_not_make_must_be_there() -> None:
    guest = GuestOf([without_leave_to_make_its_bridge()])
    async with a_network(filters=False) as network:
        with pytest.raises(NeedNotMet) as raised:
            await network.plug_vifs(guest)
        why = (
            f"bridge {BRIDGE} is not on this host; make it in the host's network configuration, "
            "or start the agent that makes it"
        )
        assert chain_of(raised.value) == f"{WHAT}: {why}"
        assert raised.value.needs == (Need(kind=NeedKind.NETWORK, name=BRIDGE, state=NeedState.ABSENT, why=why),)
        assert names() == set()
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        await network.plug_vifs(guest)
        assert "UP" in links()[BRIDGE]["flags"]


async def test_a_name_that_something_else_has_is_an_error() -> None:
    run("ip", "link", "add", BRIDGE, "type", "veth", "peer", "name", "other")
    async with a_network(filters=False) as network:
        with pytest.raises(VirtualInterfacePlugError, match=f"{BRIDGE} is a veth and no bridge"):
            await network.plug_vifs(GuestOf([a_vif(1)]))


async def test_the_tap_of_a_running_guest_comes_back_into_its_bridge_but_leaves_no_other() -> None:
    Tap.open(device_of(1))
    Tap.open(device_of(2))
    run("ip", "link", "add", "br-mine", "type", "bridge")
    run("ip", "link", "set", device_of(2), "master", "br-mine")
    async with a_network(filters=False) as network:
        await network.plug_vifs(GuestOf([a_vif(1), a_vif(2)]))
    seen = links()
    assert (seen[device_of(1)]["master"], seen[device_of(2)]["master"]) == (BRIDGE, "br-mine")
    assert {seen[device_of(number)]["mtu"] for number in (1, 2)} == {1442}


async def test_a_tap_is_made_where_libvirt_wants_it_made_and_goes_with_its_guest() -> None:
    vif = a_vif(1, type="tap", details={"mac_address": "00:61:fe:ed:ca:fe"})
    guest = GuestOf([vif], system_metadata={"image_hw_vif_multiqueue_enabled": "true"})
    async with a_network(filters=False) as network:
        await network.plug_vifs(guest)
        first = links()
        await network.plug_vifs(guest)
        assert links()[device_of(1)]["ifindex"] == first[device_of(1)]["ifindex"]
        made = first[device_of(1)]
        assert (made["address"], made["mtu"], "UP" in made["flags"]) == ("00:61:fe:ed:ca:fe", 1442, True)
        assert made["linkinfo"]["info_data"]["multi_queue"] is True
        for _ in range(2):
            await network.forget(guest)
            assert names() == set()


async def test_a_bridge_outlives_a_guest_that_is_forgotten() -> None:
    async with a_network(filters=False) as network:
        await network.plug_vifs(GuestOf([a_vif(1)]))
        await network.forget(GuestOf([a_vif(1)]))
    assert names() == {BRIDGE}


async def test_every_nic_is_tried_and_every_one_that_fails_is_named() -> None:
    vifs = [a_vif(1, type="binding_failed"), a_vif(2), a_vif(3, type="unbound"), a_vif(4, devname="not a name")]
    async with a_network(filters=False) as network:
        with pytest.raises(VirtualInterfacePlugError) as raised:
            await network.plug_vifs(GuestOf(vifs))
    assert [number for number in (1, 2, 3, 4) if port_of(number) in str(raised.value)] == [1, 3, 4]
    assert names() == {BRIDGE}


async def test_a_pci_device_that_is_gone_is_distinguished_from_what_can_be_plugged(tmp_path: Path) -> None:
    (tmp_path / "0000:81:00.1").mkdir()
    here = a_vif(1, type="hw_veb", vnic_type="direct", profile={"pci_slot": "0000:81:00.1"})
    gone = a_vif(2, type="hostdev_physical", vnic_type="direct-physical", profile={"pci_slot": "0000:82:00.0"})
    async with a_network(filters=False, pci_devices=tmp_path) as network:
        await network.plug_vifs(GuestOf([here]))
        with pytest.raises(NeedNotMet) as raised:
            await network.plug_vifs(GuestOf([here, gone]))
        (need,) = raised.value.needs
        assert (need.kind, need.name, need.state) == (NeedKind.HOST_DEVICE, "0000:82:00.0", NeedState.ABSENT)
        with pytest.raises(VirtualInterfacePlugError, match=r"binding_failed.*; .*0000:82:00\.0"):
            await network.plug_vifs(GuestOf([a_vif(3, type="binding_failed"), gone]))


async def test_what_only_others_can_plug_is_reported_after_the_rest_is_plugged() -> None:
    async with a_network(filters=False) as network:
        with pytest.raises(NotImplementedError, match="VIFs of type vrouter are plugged by os-vif's plugin vrouter"):
            await network.plug_vifs(GuestOf([a_vif(1, type="vrouter"), a_vif(2)]))
    assert names() == {BRIDGE}


@pytest.mark.parametrize(
    "vif", [a_vif(1, type="vrouter"), a_vif(1, type="carrier_pigeon"), a_vif(1, details={"brand_new_plug": True})]
)
async def test_a_guest_is_not_started_with_a_nic_that_only_others_can_plug(vif: dict[str, object]) -> None:
    async with a_network(filters=False) as network:
        with pytest.raises(NeedNotMet) as raised:
            await network.make_ready(GuestOf([vif, a_vif(2)]))
    (need,) = raised.value.needs
    assert (need.kind, need.name) == (NeedKind.NETWORK, f"VIF {port_of(1)}")
    assert (need.state, need.met_by) == (NeedState.UNVERIFIED, MetBy.NOVA)


async def test_a_parent_that_is_not_there_is_a_need_and_comes() -> None:
    guest = GuestOf([a_vif(1, type="macvtap", details={"macvtap_source": "parent"})])
    async with a_network(filters=False) as network:
        with pytest.raises(NeedNotMet) as raised:
            await network.make_ready(guest)
        assert [(need.name, need.state) for need in raised.value.needs] == [("parent", NeedState.ABSENT)]
        run("ip", "link", "add", "parent", "type", "veth", "peer", "name", "other")
        await network.make_ready(guest)


async def test_a_kernel_that_gives_no_leave_is_the_hosts_trouble(tmp_path: Path) -> None:
    script = tmp_path / "plug.py"
    script.write_text(f"import sys; sys.path[:0] = {sys.path!r}\n{PLUG_ONE.replace('filters=True', 'filters=False')}")
    with pytest.raises(AssertionError) as raised:
        run("setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, str(script))
    assert "NeedNotMet: cannot plug VIF" in str(raised.value)
    assert "Operation not permitted" in str(raised.value)


async def test_what_the_kernel_refuses_is_in_the_chain_of_the_error() -> None:
    Tap.open(device_of(1))
    vif = a_vif(1)
    vif["network"]["meta"]["mtu"] = 65535
    async with a_network(filters=False) as network:
        with pytest.raises(VirtualInterfacePlugError) as raised:
            await network.plug_vifs(GuestOf([vif]))
    assert str(raised.value) == WHAT
    cause = raised.value.__cause__
    assert isinstance(cause, VirtualInterfacePlugError)
    assert str(cause) == f"cannot change the device {device_of(1)}: the kernel refused"
    assert isinstance(cause.__cause__, NetlinkError)


async def test_a_part_that_is_left_out_does_nothing() -> None:
    async with a_network(plugs=False, filters=False) as network:
        await network.plug_vifs(GuestOf([a_vif(1, type="binding_failed")]))
        await network.filter_defer_apply_on()
        await network.ensure_filtering_rules_for_instance(GuestOf([a_vif(1, address="nonsense")]))
        await network.filter_defer_apply_off()
        await network.forget(GuestOf([a_vif(1)]))
    assert names() == set()


@pytest.mark.usefixtures("nftables")
async def test_a_record_that_cannot_be_right_is_an_error_that_names_its_nic() -> None:
    async with a_network() as network:
        with pytest.raises(DriverError) as raised:
            await network.ensure_filtering_rules_for_instance(GuestOf([a_vif(1, address=None)]))
    assert str(raised.value) == (
        f"cannot filter the packets of instance {uuid_of(1)}: VIF {port_of(1)} (device {device_of(1)}): "
        "it has no address, so it is unknown what it may send from"
    )
