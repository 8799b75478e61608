"""Packets through real taps: what security group rules let through, without connection tracking."""

from typing import Any

import pytest

from support import frames
from support.frames import ICMP, TCP, UDP, Tap, arp, icmp, ipv4, ipv6, tcp, udp, what_passes
from support.network import GuestOf, a_network, a_vif, device_of, ip_of, ipv6_of, mac_of

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nftables")]

OUTSIDE, GUEST = 1, 2
SSH = {"direction": "ingress", "ethertype": "IPv4", "protocol": "tcp", "port_range_min": 22, "port_range_max": 23}
RULES: list[dict[str, Any]] = [
    SSH,
    {"direction": "ingress", "ethertype": "IPv4", "protocol": "udp", "port_range_min": 53, "port_range_max": 53},
    {"direction": "ingress", "ethertype": "IPv6", "protocol": "tcp", "remote_ip_prefix": "2001:db8::/32"},
    {"direction": "ingress", "ethertype": "IPv4", "protocol": "icmp", "port_range_min": 8},
    {"direction": "egress", "ethertype": "IPv4", "protocol": "udp", "remote_ip_prefix": "10.0.0.0/24"},
    {"direction": "egress", "ethertype": "IPv4", "protocol": "6", "port_range_min": 443, "port_range_max": 443},
    {"direction": "ingress", "ethertype": "IPv4", "protocol": "udplite", "port_range_min": 700, "port_range_max": 700},
    {"direction": "ingress", "ethertype": "IPv4", "protocol": "33", "port_range_min": 700, "port_range_max": 701},
    {"direction": "ingress", "ethertype": "IPv4", "protocol": "vrrp", "port_range_min": 7, "port_range_max": 7},
    {"direction": "egress", "ethertype": "IPv4", "protocol": "esp"},
]
DCCP, ESP, VRRP, UDP_LITE = 33, 50, 112, 136


LATER_FRAGMENT, FIRST_FRAGMENT = 3, 0x2000


def to_guest(protocol: int, payload: bytes, fragment: int = 0) -> bytes:
    return ipv4(mac_of(OUTSIDE), ip_of(OUTSIDE), protocol, payload, to=ip_of(GUEST), fragment=fragment)


def from_guest(protocol: int, payload: bytes, to: str = ip_of(OUTSIDE)) -> bytes:
    return ipv4(mac_of(GUEST), ip_of(GUEST), protocol, payload, to=to)


HONEST_OUTSIDE, HONEST_GUEST = arp(mac_of(OUTSIDE), ip=ip_of(OUTSIDE)), arp(mac_of(GUEST), ip=ip_of(GUEST))

INWARDS = {
    "TCP to a port": to_guest(TCP, tcp(1000, 22, frames.SYN)),
    "TCP to the last port of a range": to_guest(TCP, tcp(1000, 23, frames.SYN)),
    "UDP to a port": to_guest(UDP, udp(1000, 53)),
    "echo request": to_guest(ICMP, icmp(8)),
    "answer over TCP": to_guest(TCP, tcp(443, 1000, frames.SYN | frames.ACK)),
    "more of a TCP connection": to_guest(TCP, tcp(1000, 80, frames.ACK)),
    "reset": to_guest(TCP, tcp(443, 1000, frames.RST)),
    "unreachable": to_guest(ICMP, icmp(3)),
    "first fragment to a port": to_guest(UDP, udp(1000, 53), FIRST_FRAGMENT),
    "later fragment": to_guest(UDP, bytes(8), LATER_FRAGMENT),
    "DHCP answer": to_guest(UDP, udp(67, 68)),
    "UDP-Lite to a port": to_guest(UDP_LITE, udp(1000, 700)),
    "DCCP to the last port of a range": to_guest(DCCP, udp(1000, 701)),
    "a protocol without ports": to_guest(VRRP, bytes(8)),
    "TCP over IPv6 from its network": ipv6(mac_of(OUTSIDE), ipv6_of(OUTSIDE), TCP, tcp(1000, 7, frames.SYN)),
}
STOPPED_INWARDS = {
    "TCP to another port": to_guest(TCP, tcp(1000, 24, frames.SYN)),
    "UDP to another port": to_guest(UDP, udp(1000, 54)),
    "UDP from the port of a service": to_guest(UDP, udp(53, 1000)),
    "first fragment to another port": to_guest(UDP, udp(1000, 54), FIRST_FRAGMENT),
    "timestamp request": to_guest(ICMP, icmp(13)),
    "UDP-Lite to another port": to_guest(UDP_LITE, udp(1000, 701)),
    "UDP to a port of UDP-Lite": to_guest(UDP, udp(1000, 700)),
    "DCCP to another port": to_guest(DCCP, udp(1000, 702)),
    "what may only go out": to_guest(ESP, bytes(8)),
    "TCP over IPv6 from elsewhere": ipv6(mac_of(OUTSIDE), "2001:db9::1", TCP, tcp(1000, 7, frames.SYN)),
    "UDP over IPv6": ipv6(mac_of(OUTSIDE), ipv6_of(OUTSIDE), UDP, udp(1000, 53)),
}
OUTWARDS = {
    "UDP to a network": from_guest(UDP, udp(1000, 2000)),
    "TCP to a port": from_guest(TCP, tcp(1000, 443, frames.SYN)),
    "answer over TCP": from_guest(TCP, tcp(22, 1000, frames.SYN | frames.ACK)),
    "DHCP": ipv4(mac_of(GUEST), "0.0.0.0", UDP, udp(68, 67), to="255.255.255.255"),
    "ARP": arp(mac_of(GUEST), ip=ip_of(GUEST), target="10.0.0.88"),
    "ESP": from_guest(ESP, bytes(8)),
}
STOPPED_OUTWARDS = {
    "UDP to elsewhere": from_guest(UDP, udp(1000, 2000), to="10.0.1.1"),
    "TCP to another port": from_guest(TCP, tcp(1000, 80, frames.SYN)),
    "another protocol": from_guest(47, bytes(8)),
    "IPv6": ipv6(mac_of(GUEST), ipv6_of(GUEST), UDP, udp(1000, 2000)),
}


async def test_what_no_rule_lets_through_is_dropped_either_way() -> None:
    async with a_network() as network:
        outside, guest = Tap.open(device_of(OUTSIDE)), Tap.open(device_of(GUEST))
        told = GuestOf([a_vif(OUTSIDE, port_security_enabled=False), a_vif(GUEST, security_group_rules=RULES)])
        await network.plug_vifs(told)
        await network.ensure_filtering_rules_for_instance(told)

        inwards = what_passes(outside, guest, INWARDS | STOPPED_INWARDS, honest=HONEST_OUTSIDE)
        assert inwards == set(INWARDS)
        outwards = what_passes(guest, outside, OUTWARDS | STOPPED_OUTWARDS, honest=HONEST_GUEST)
        assert outwards == set(OUTWARDS)


async def test_udp_answers_pass_once_the_guest_has_asked_and_still_do_after_a_replacement() -> None:
    answer = {"answer": to_guest(UDP, udp(123, 1000)), "not to the port that asked": to_guest(UDP, udp(123, 1001))}
    async with a_network() as network:
        outside, guest = Tap.open(device_of(OUTSIDE)), Tap.open(device_of(GUEST))
        told = GuestOf([a_vif(OUTSIDE, port_security_enabled=False), a_vif(GUEST, security_group_rules=RULES)])
        await network.plug_vifs(told)
        await network.ensure_filtering_rules_for_instance(told)
        assert what_passes(outside, guest, answer, honest=HONEST_OUTSIDE) == set()

        guest.send(from_guest(UDP, udp(1000, 123)))
        assert what_passes(outside, guest, answer, honest=HONEST_OUTSIDE) == {"answer"}
        await network.ensure_filtering_rules_for_instance(told)
        assert what_passes(outside, guest, answer, honest=HONEST_OUTSIDE) == {"answer"}


async def test_a_guest_answers_over_udp_whom_it_may_not_ask() -> None:
    ingress = [rule for rule in RULES if rule["direction"] == "ingress"]
    answer = {"answer": from_guest(UDP, udp(53, 1000)), "not to the port that asked": from_guest(UDP, udp(53, 1001))}
    async with a_network() as network:
        outside, guest = Tap.open(device_of(OUTSIDE)), Tap.open(device_of(GUEST))
        told = GuestOf([a_vif(OUTSIDE, port_security_enabled=False), a_vif(GUEST, security_group_rules=ingress)])
        await network.plug_vifs(told)
        await network.ensure_filtering_rules_for_instance(told)
        outside.send(to_guest(UDP, udp(1000, 53)))
        assert what_passes(guest, outside, answer, honest=HONEST_GUEST) == {"answer"}
