"""Guests with NICs, and looks at what the real kernel has of them."""

import json
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from bringup.drivers.network.host import HostNetwork, make_host_network
from bringup.drivers.network.rules.ruleset import transaction
from bringup.drivers.network.rules.vifs import DeviceName, Mac, device_name
from bringup.drivers.network.rules.vifs import mac_of as checked_mac
from support.records import uuid_of

BRIDGE = "brq-tests"


@dataclass(frozen=True)
class GuestOf:
    """What a driver is told of an instance with these VIFs."""

    network_info: Sequence[Mapping[str, Any]]
    uuid: str = uuid_of(1)
    name: str = "instance-00000001"
    metadata: Mapping[str, str] = field(default_factory=dict)
    system_metadata: Mapping[str, str] = field(default_factory=dict)
    block_devices: Sequence[Mapping[str, Any]] = ()


def port_of(number: int) -> str:
    """Return the UUID of a port; its first digits tell it from others, as Neutron's do."""
    return f"{number:08x}-1520-470b-9cc6-0045deb34bed"


def mac_of(number: int) -> Mac:
    """Return the MAC of a port."""
    return checked_mac(f"fa:16:3e:00:{number >> 8:02x}:{number & 255:02x}", "MAC")


def ip_of(number: int) -> str:
    """Return the IPv4 address of a port."""
    return f"10.0.{number >> 8}.{number & 255}"


def ipv6_of(number: int) -> str:
    """Return the IPv6 address of a port."""
    return f"2001:db8::{number:x}"


def device_of(number: int) -> DeviceName:
    """Return the device of a port, as Nova names it."""
    return device_name(f"tap{port_of(number)}"[:14], "device")


def a_vif(number: int = 1, **fields: Any) -> dict[str, Any]:
    """Make a VIF on a Linux bridge as Nova's info cache has it; ``fields`` say what is particular."""
    ips = [
        {"address": ip_of(number), "type": "fixed", "version": 4, "meta": {}, "floating_ips": []},
        {"address": ipv6_of(number), "type": "fixed", "version": 6, "meta": {}, "floating_ips": []},
    ]
    plain = {
        "id": port_of(number),
        "address": mac_of(number),
        "network": {
            "id": "aff70806-42f0-45ff-a863-a3c3309fd926",
            "bridge": BRIDGE,
            "label": "private",
            "subnets": [{"cidr": "10.0.0.0/16", "ips": [ip], "version": ip["version"]} for ip in ips],
            "meta": {"mtu": 1442, "injected": False, "should_create_bridge": True},
        },
        "type": "bridge",
        "details": {},
        "devname": device_of(number),
        "ovs_interfaceid": None,
        "active": True,
        "vnic_type": "normal",
        "profile": {},
        "preserve_on_delete": False,
        "delegate_create": False,
        "meta": {},
    }
    return plain | fields


def an_ovs_vif(number: int = 1, *, bridge: str = "br-int", **fields: Any) -> dict[str, Any]:
    """Make a VIF in Open vSwitch."""
    plain = a_vif(number)
    network = plain["network"] | {"bridge": bridge, "meta": {"mtu": 1442}}
    values = {
        "type": "ovs",
        "network": network,
        "details": {"port_filter": True, "bridge_name": bridge, "datapath_type": "netdev"},
        "ovs_interfaceid": port_of(number),
        "delegate_create": True,
    }
    return plain | values | fields


def hybrid(**details: Any) -> dict[str, Any]:
    """Return the details of a VIF with a Linux bridge before Open vSwitch."""
    return {"ovs_hybrid_plug": True, "datapath_type": "netdev", **details}


def run(*command: str) -> str:
    """Run a command of the host; return what it wrote."""
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def links() -> dict[str, dict[str, Any]]:
    """Return what ``ip`` says of each link, without what counts or changes by itself."""
    found = json.loads(run("ip", "-json", "-details", "link", "show"))
    keys = ("ifindex", "mtu", "master", "address", "flags", "linkinfo")
    return {one["ifname"]: {key: one.get(key) for key in keys} for one in found if one["ifname"] != "lo"}


def names() -> set[str]:
    """Return the names of the links, those aside that every namespace has."""
    return {name for name in links() if not name.startswith("ifb")}


def ruleset() -> str:
    """Return all that nft has, in words, without counters."""
    return run("nft", "--stateless", "list", "ruleset")


def our_table() -> str:
    """Return our table, in words, without counters; without a rule where it is not there yet."""
    subprocess.run(["nft", "-f", "-"], input=transaction([], {}), text=True, check=True)  # noqa: S607 - wherever it is
    return run("nft", "--stateless", "list", "table", "bridge", "bringup")


@asynccontextmanager
async def a_network(*, filters: bool = True, **options: Any) -> AsyncIterator[HostNetwork]:
    """Yield the network of this host, which has read what is there."""
    network = make_host_network(filters=filters, **options)
    await network.check([])
    yield network
