"""Rules against spoofing: a guest sends from its own addresses only, and nothing that a router or DHCP server sends.

Pure.  The rules are those of Neutron's port security (``agent/linux/iptables_firewall.py`` and ``arp_protect``), and
stricter where a comment says so.  None of them needs connection tracking.
"""

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import Final

from bringup.drivers.network.rules.addresses import Allowed, IPNetwork
from bringup.drivers.network.rules.expressions import (
    ACCEPT,
    DROP,
    EtherType,
    Family,
    IcmpMessage,
    Rule,
    bits_of_transport,
    concatenated,
    ether_type,
    icmp_of,
    ip,
    ip_of,
    mac,
    match,
    one_of,
    plain,
    ports,
)
from bringup.drivers.network.rules.vifs import Mac

# QEMU announces with it to the switches where a migrated or resumed guest is.
RARP: Final[EtherType] = "0x8035"
UNSPECIFIED_IPV4, UNSPECIFIED_IPV6 = IPv4Network(0), IPv6Network(0)
# A guest sends these before it has an address: duplicate address detection (RFC 4862, RFC 3810).
BEFORE_ADDRESS: Final[tuple[IcmpMessage, ...]] = (
    "nd-neighbor-solicit",
    "nd-router-solicit",
    "mld-listener-report",
    "mld2-listener-report",
)
# In a neighbour advertisement the target follows type, code, checksum and flags (RFC 4861).
TARGET_BIT = 64


def spoofing_rules(allowed: Allowed) -> Iterator[Rule]:
    """Return the rules that drop spoofed frames; the rest is IPv4 or IPv6 from own addresses, or no IP at all."""
    yield match(plain("ether saddr"), one_of(mac(one) for one in allowed.macs), op="!="), DROP
    # Tagged frames would not match the rules below; the networks of such a port are not tagged.
    yield ether_type("8021q", "8021ad"), DROP
    yield ether_type(RARP), ACCEPT
    yield from _arp(allowed)
    yield ports("udp", sport=67, dport=68), DROP
    yield ports("udp", sport=547, dport=546), DROP
    yield match(icmp_of("icmpv6"), plain("nd-router-advert")), DROP
    if not allowed.any_ip:
        yield from _ipv4(allowed)
        yield from _ipv6(allowed)


def _arp(allowed: Allowed) -> Iterator[Rule]:
    senders = (plain("ether saddr"), plain("arp saddr ether"))
    if allowed.any_ip:
        yield match(concatenated(*senders), one_of(concatenated(mac(one), mac(one)) for one in allowed.macs)), ACCEPT
    else:
        pairs = (
            concatenated(mac(one), mac(one), ip(net)) for one in allowed.macs for net in _arp_senders(one, allowed)
        )
        yield match(concatenated(*senders, plain("arp saddr ip")), one_of(pairs)), ACCEPT
    yield ether_type("arp"), DROP


def _arp_senders(one: Mac, allowed: Allowed) -> Iterator[IPv4Network]:
    """Return the sender addresses of ARP, no two of which overlap: a probe has none (RFC 5227)."""
    own = (network for owner, network in allowed.ipv4 if owner == one)
    yield from collapse_addresses([UNSPECIFIED_IPV4, *own])


def _ipv4(allowed: Allowed) -> Iterator[Rule]:
    discover = (match(ip_of("ip", "saddr"), ip(UNSPECIFIED_IPV4)), ports("udp", sport=68, dport=67))
    yield *discover, ACCEPT
    yield from _own(allowed.ipv4, "ip")


def _ipv6(allowed: Allowed) -> Iterator[Rule]:
    yield (
        match(ip_of("ip6", "saddr"), ip(UNSPECIFIED_IPV6)),
        match(icmp_of("icmpv6"), one_of(plain(message) for message in BEFORE_ADDRESS)),
        ACCEPT,
    )
    yield from _own(allowed.ipv6, "ip6")
    # Stricter than Neutron's iptables, as its Open vSwitch firewall: only the owner of an address advertises it.
    advertises = match(icmp_of("icmpv6"), plain("nd-neighbor-advert"))
    for network in dict.fromkeys(network for _, network in allowed.ipv6):
        if network.prefixlen == 0:
            return
        yield advertises, bits_of_transport(network, at=TARGET_BIT), ACCEPT
    yield advertises, DROP


def _own(pairs: tuple[tuple[Mac, IPNetwork], ...], family: Family) -> Iterator[Rule]:
    if not pairs:
        yield ether_type(family), DROP
        return
    left = concatenated(plain("ether saddr"), ip_of(family, "saddr"))
    yield match(left, one_of(concatenated(mac(owner), ip(network)) for owner, network in pairs), op="!="), DROP
