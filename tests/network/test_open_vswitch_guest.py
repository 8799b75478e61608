"""Guests of a real libvirtd whose taps are made here with their ports (``ovs_create_tap``), after a boot."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bringup.drivers.base import PowerState
from bringup.drivers.needs import NeedState
from bringup.drivers.network.host import make_host_network
from support.drivers import driver_guest
from support.libvirt_drivers import opened, options
from support.libvirtd import DomainExtras, a_libvirtd
from support.network import GuestOf, an_ovs_vif, device_of, links, mac_of, names, run
from support.open_vswitch import Switch, an_open_vswitch
from support.records import uuid_of

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

DETAILS = {"ovs_create_tap": True, "port_filter": True, "datapath_type": "netdev"}


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[Switch]:
    with an_open_vswitch(tmp_path) as running:
        yield running


def nic(number: int, queues: int) -> str:
    """As Nova 34 defines it where os-vif makes the tap."""
    several = f"<driver name='qemu' queues='{queues}'/>" if queues > 1 else ""
    return f"""<interface type='ethernet'><mac address='{mac_of(number)}'/><model type='virtio'/>{several}
      <target dev='{device_of(number)}' managed='no'/></interface>"""


@pytest.mark.parametrize("queues", [1, 2])
async def test_a_guest_whose_tap_nova_would_make_comes_back_after_a_boot(switch: Switch, queues: int) -> None:
    guests = [GuestOf([an_ovs_vif(n, details=DETAILS)], uuid=uuid_of(n), name=driver_guest(n).name) for n in (1, 2)]
    network = make_host_network(ovsdb=switch.database)
    with a_libvirtd(network="ours") as server:
        for number in (1, 2):
            server.define(uuid_of(number), driver_guest(number).name, more=DomainExtras(devices=nic(number, queues)))
        async with opened(options(server), network) as driver:
            for _ in range(2):
                for guest in guests:
                    assert not [need for need in await driver.needs(guest) if need.state is not NeedState.MET]
                    await driver.plug_vifs(guest)
                    await driver.resume_state_on_host_boot(guest)
                    assert (await driver.get_info(guest)).state is PowerState.RUNNING
                made = {number: links()[device_of(number)] for number in (1, 2)}
                assert [made[number]["address"] for number in (1, 2)] == [mac_of(1), mac_of(2)]
                assert switch.ports("br-int") == {device_of(1), device_of(2)}
                # A boot: the guests are off and the links are gone; the database of the switch is as it was.
                for number, guest in enumerate(guests, start=1):
                    await driver.power_off(guest, timeout_s=0, retry_interval_s=0)
                    run("ip", "link", "delete", device_of(number))
            for guest in guests:
                await driver.destroy(guest, destroy_disks=False)
            assert switch.ports("br-int") == set()
            assert not {device_of(1), device_of(2)} & names()
