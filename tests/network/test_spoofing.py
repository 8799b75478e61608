"""Frames through real taps on a real bridge: what nftables lets a guest send."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from bringup.drivers.network.host import HostNetwork
from support import frames
from support.frames import ICMPV6, RARP, TCP, UDP, Tap, arp, ethernet, icmp, ipv4, ipv6, tagged, tcp, udp, what_passes
from support.network import GuestOf, a_network, a_vif, device_of, ip_of, ipv6_of, mac_of

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nftables")]

MAC, IP, IPV6 = mac_of(1), ip_of(1), ipv6_of(1)
LINK_LOCAL = "fe80::f816:3eff:fe00:1"
OTHER_MAC, OTHER_IP, OTHER_IPV6 = mac_of(3), ip_of(3), ipv6_of(3)
HONEST = arp(MAC, ip=IP)
DATA = udp(1000, 2000)

SPOOFED = {
    "another's MAC": ipv4(OTHER_MAC, IP, UDP, DATA),
    "another's MAC in ARP's frame": arp(OTHER_MAC, ip=IP),
    "another's MAC in ARP's message": arp(MAC, mac=OTHER_MAC, ip=IP),
    "another's IP in ARP": arp(MAC, ip=OTHER_IP),
    "another's IP": ipv4(MAC, OTHER_IP, UDP, DATA),
    "another's IP over TCP": ipv4(MAC, OTHER_IP, TCP, tcp(1000, 22, frames.SYN)),
    "no IP, but no DHCP": ipv4(MAC, "0.0.0.0", UDP, DATA),
    "another's IPv6": ipv6(MAC, OTHER_IPV6, UDP, DATA),
    "another's link-local address": ipv6(MAC, "fe80::f816:3eff:fe00:3", UDP, DATA),
    "no IPv6, but no neighbour discovery": ipv6(MAC, "::", UDP, DATA),
    "a DHCP server": ipv4(MAC, IP, UDP, udp(67, 68)),
    "a DHCPv6 server": ipv6(MAC, LINK_LOCAL, UDP, udp(547, 546)),
    "a router": ipv6(MAC, LINK_LOCAL, ICMPV6, icmp(134, bytes(12))),
    "has another's address (neighbour advertisement)": ipv6(
        MAC, IPV6, ICMPV6, frames.neighbour_advertisement(OTHER_IPV6)
    ),
    "another's IP behind a VLAN tag": tagged(ipv4(MAC, OTHER_IP, UDP, DATA), 7),
    "a VLAN tag": tagged(HONEST, 7),
    "a bridge of its own (STP)": ethernet(MAC, 0x0026, b"\x42\x42\x03" + bytes(35), to="01:80:c2:00:00:00"),
    "no IP at all": ethernet(MAC, 0x88B5, bytes(46)),
}
SINCERE = {
    "ARP": arp(MAC, ip=IP, target="10.0.0.77"),
    "ARP probe": arp(MAC, ip="0.0.0.0", target=IP),
    "IPv4": ipv4(MAC, IP, UDP, DATA),
    "TCP": ipv4(MAC, IP, TCP, tcp(1000, 22, frames.SYN)),
    "DHCP client": ipv4(MAC, "0.0.0.0", UDP, udp(68, 67), to="255.255.255.255"),
    "IPv6": ipv6(MAC, IPV6, UDP, DATA),
    "link-local address": ipv6(MAC, LINK_LOCAL, UDP, DATA),
    "duplicate address detection": ipv6(MAC, "::", ICMPV6, icmp(135, bytes(20))),
    "looks for a router": ipv6(MAC, "::", ICMPV6, icmp(133)),
    "says that it has its address": ipv6(MAC, IPV6, ICMPV6, frames.neighbour_advertisement(IPV6)),
    "QEMU's announcement": ethernet(MAC, RARP, bytes(46)),
}


@pytest.fixture
async def network() -> AsyncIterator[HostNetwork]:
    async with a_network() as made:
        yield made


@contextmanager
def taps(*numbers: int) -> Iterator[list[Tap]]:
    """Open the guests' ends of NICs that stand on the bridge once they are plugged."""
    opened = [Tap.open(device_of(number)) for number in numbers]
    yield opened
    for tap in opened:
        tap.close()


async def test_what_is_spoofed_is_dropped_and_what_is_honest_passes(network: HostNetwork) -> None:
    guest = GuestOf([a_vif(1), a_vif(2, port_security_enabled=False)])
    with taps(1, 2) as (sender, receiver):
        await network.plug_vifs(guest)
        every = SPOOFED | SINCERE
        assert what_passes(sender, receiver, every, honest=HONEST) == set(every)

        await network.ensure_filtering_rules_for_instance(guest)
        assert what_passes(sender, receiver, every, honest=HONEST) == set(SINCERE)


async def test_a_dropped_frame_does_not_teach_the_bridge_where_its_sender_is(network: HostNetwork) -> None:
    guest = GuestOf([a_vif(1), a_vif(2)])
    with taps(1, 2, 3) as (liar, owner, sender):
        await network.plug_vifs(GuestOf([*guest.network_info, a_vif(3)]))
        await network.ensure_filtering_rules_for_instance(guest)
        owner.send(arp(mac_of(2), ip=ip_of(2)))
        liar.send(arp(mac_of(2), ip=ip_of(2), target="10.0.0.66"))
        for_owner = ethernet(mac_of(3), RARP, bytes(46), to=mac_of(2))
        sender.send(for_owner)
        assert for_owner in owner.receive_until(for_owner)
        to_all = arp(mac_of(3), ip=ip_of(3))
        sender.send(to_all)
        assert for_owner not in liar.receive_until(to_all)


async def test_allowed_address_pairs_may_be_sent_from(network: HostNetwork) -> None:
    pairs = [
        {"ip_address": "10.9.0.0/24"},
        {"ip_address": "10.0.0.200", "mac_address": "00:00:5E:00:01:01"},
        {"ip_address": "2001:db8:9::/48"},
    ]
    guest = GuestOf([a_vif(1, allowed_address_pairs=pairs), a_vif(2)])
    virtual = "00:00:5e:00:01:01"
    allowed = {
        "a network": ipv4(MAC, "10.9.0.7", UDP, DATA),
        "a network in ARP": arp(MAC, ip="10.9.0.7"),
        "a virtual MAC": ipv4(virtual, "10.0.0.200", UDP, DATA),
        "a virtual MAC in ARP": arp(virtual, ip="10.0.0.200"),
        "a network of IPv6": ipv6(MAC, "2001:db8:9::7", UDP, DATA),
        "an address of a network": ipv6(MAC, IPV6, ICMPV6, frames.neighbour_advertisement("2001:db8:9::7")),
    }
    not_allowed = {
        "beside the network": ipv4(MAC, "10.9.1.7", UDP, DATA),
        "the virtual MAC's address from its own": ipv4(MAC, "10.0.0.200", UDP, DATA),
        "its own address from the virtual MAC": ipv4(virtual, IP, UDP, DATA),
        "beside the network of IPv6": ipv6(MAC, "2001:db8:a::7", UDP, DATA),
        "an address beside the network": ipv6(MAC, IPV6, ICMPV6, frames.neighbour_advertisement("2001:db8:a::7")),
    }
    with taps(1, 2) as (sender, receiver):
        await network.plug_vifs(guest)
        await network.ensure_filtering_rules_for_instance(guest)
        assert what_passes(sender, receiver, allowed | not_allowed, honest=HONEST) == set(allowed)


WIDE = {
    "every address": ["0.0.0.0/0", "::/0"],
    "every address, and some again": ["0.0.0.0/0", IP, "10.0.0.0/8", "::/0", IPV6, "2001:db8::/32"],
    "halves": ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"],
    "one covers its own": ["10.0.0.0/16", "2001:db8::/64"],
    "its own again": [IP, IP, f"{IP}/32", IPV6],
}


@pytest.mark.parametrize("pairs", WIDE.values(), ids=WIDE)
async def test_pairs_that_overlap_each_other_or_the_address_of_a_probe_are_put_in_place(
    network: HostNetwork, pairs: list[str]
) -> None:
    guest = GuestOf([a_vif(1, allowed_address_pairs=[{"ip_address": one} for one in pairs]), a_vif(2)])
    has_others = not pairs[0].startswith(IP)
    of_others = {
        "another's IP": ipv4(MAC, OTHER_IP, UDP, DATA),
        "another's IP in ARP": arp(MAC, ip=OTHER_IP),
        "another's IPv6": ipv6(MAC, OTHER_IPV6, UDP, DATA),
        "says that it has another's IPv6": ipv6(MAC, IPV6, ICMPV6, frames.neighbour_advertisement(OTHER_IPV6)),
    }
    never = {
        "another's MAC": ipv4(OTHER_MAC, IP, UDP, DATA),
        "another's MAC in ARP": arp(MAC, mac=OTHER_MAC, ip=IP),
        "a DHCP server": ipv4(MAC, IP, UDP, udp(67, 68)),
    }
    with taps(1, 2) as (sender, receiver):
        await network.plug_vifs(guest)
        await network.ensure_filtering_rules_for_instance(guest)
        expected = set(SINCERE) | (set(of_others) if has_others else set())
        assert what_passes(sender, receiver, SINCERE | of_others | never, honest=HONEST) == expected


async def test_a_port_without_addresses_is_held_to_its_mac(network: HostNetwork) -> None:
    bare = a_vif(1)
    bare["network"] = bare["network"] | {"subnets": []}
    guest = GuestOf([bare, a_vif(2)])
    tried = {
        "any IP": ipv4(MAC, OTHER_IP, UDP, DATA),
        "any IP in ARP": arp(MAC, ip=OTHER_IP),
        "any IPv6": ipv6(MAC, OTHER_IPV6, UDP, DATA),
        "another's MAC": ipv4(OTHER_MAC, OTHER_IP, UDP, DATA),
        "another's MAC in ARP": arp(MAC, mac=OTHER_MAC, ip=OTHER_IP),
    }
    with taps(1, 2) as (sender, receiver):
        await network.plug_vifs(guest)
        await network.ensure_filtering_rules_for_instance(guest)
        assert what_passes(sender, receiver, tried, honest=HONEST) == {"any IP", "any IP in ARP", "any IPv6"}


@pytest.mark.parametrize(
    "fields",
    [
        {"port_security_enabled": False},
        {"details": {"port_security_enabled": False}},
        {"details": {"port_filter": True}},
    ],
    ids=["port security off", "port security off in the details", "filtered by Neutron"],
)
async def test_a_nic_that_is_not_ours_to_filter_sends_what_it_likes(
    network: HostNetwork, fields: dict[str, object]
) -> None:
    guest = GuestOf([a_vif(1), a_vif(2)])
    with taps(1, 2) as (sender, receiver):
        await network.plug_vifs(guest)
        await network.ensure_filtering_rules_for_instance(guest)
        lie = {"another's IP": ipv4(MAC, OTHER_IP, UDP, DATA)}
        assert what_passes(sender, receiver, lie, honest=HONEST) == set()

        await network.ensure_filtering_rules_for_instance(GuestOf([a_vif(1, **fields), a_vif(2)]))
        assert what_passes(sender, receiver, lie, honest=HONEST) == set(lie)
