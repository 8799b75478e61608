"""What a guest may send: from its own MAC and IP addresses only, and nothing that only a router or DHCP server sends.

Pure.  The rules are those of Neutron's port security (``agent/linux/iptables_firewall.py`` and ``arp_protect``), and
stricter where that is said.  None of them needs connection tracking.
"""

from collections.abc import Iterator

from bringup.drivers.network.addresses import Allowed, IPNetwork
from bringup.drivers.network.expressions import (
    ACCEPT,
    DROP,
    Rule,
    address,
    ether_type,
    joined,
    match,
    one_of,
    ports,
)

# QEMU tells the switches by it where a guest is now that was migrated or resumed.
RARP = "0x8035"
UNSPECIFIED_IPV4, UNSPECIFIED_IPV6 = "0.0.0.0", "::"  # noqa: S104 - addresses to match, not to listen on
# What a guest sends before it has an address: duplicate address detection and what goes with it (RFC 4862, RFC 3810).
BEFORE_ADDRESS = ("nd-neighbor-solicit", "nd-router-solicit", "mld-listener-report", "mld2-listener-report")
# Of a neighbour advertisement: the target stands behind type, code, checksum and flags (RFC 4861).
TARGET_BIT = 64


def from_guest(allowed: Allowed) -> Iterator[Rule]:
    """Give the rules that drop what is spoofed; what is left is IPv4 or IPv6 and honest, or no IP at all."""
    yield match("ether saddr", one_of(allowed.macs), op="!="), DROP
    # What is tagged would pass the matches below by another name; the networks of such a port are not tagged.
    yield ether_type("8021q", "8021ad"), DROP
    yield ether_type(RARP), ACCEPT
    yield from _arp(allowed)
    yield ports("udp", sport=67, dport=68), DROP
    yield ports("udp", sport=547, dport=546), DROP
    yield match("icmpv6 type", "nd-router-advert"), DROP
    if not allowed.any_ip:
        yield from _ipv4(allowed)
        yield from _ipv6(allowed)


def _arp(allowed: Allowed) -> Iterator[Rule]:
    if allowed.any_ip:
        left = joined("ether saddr", "arp saddr ether")
        right = one_of(joined(mac, mac) for mac in allowed.macs)
    else:
        left = joined("ether saddr", "arp saddr ether", "arp saddr ip")
        # A probe for an address asks from none (RFC 5227).
        pairs = [*((mac, address(net)) for mac, net in allowed.ipv4), *((m, UNSPECIFIED_IPV4) for m in allowed.macs)]
        right = one_of(joined(mac, mac, ip) for mac, ip in pairs)
    yield match(left, right), ACCEPT
    yield ether_type("arp"), DROP


def _ipv4(allowed: Allowed) -> Iterator[Rule]:
    discover = (match("ip saddr", UNSPECIFIED_IPV4), ports("udp", sport=68, dport=67))
    yield *discover, ACCEPT
    yield from _own(allowed.ipv4, "ip")


def _ipv6(allowed: Allowed) -> Iterator[Rule]:
    yield (
        match("ip6 saddr", UNSPECIFIED_IPV6),
        match("icmpv6 type", one_of(BEFORE_ADDRESS)),
        ACCEPT,
    )
    yield from _own(allowed.ipv6, "ip6")
    # Stricter than Neutron's iptables, as its Open vSwitch firewall: who answers for an address must have it.
    advertises = match("icmpv6 type", "nd-neighbor-advert")
    for network in dict.fromkeys(network for _, network in allowed.ipv6):
        if network.prefixlen == 0:
            return
        yield advertises, _target(network), ACCEPT
    yield advertises, DROP


def _own(pairs: tuple[tuple[str, IPNetwork], ...], family: str) -> Iterator[Rule]:
    if not pairs:
        yield ether_type(family), DROP
        return
    left = joined("ether saddr", f"{family} saddr")
    yield match(left, one_of(joined(mac, address(network)) for mac, network in pairs), op="!="), DROP


def _target(network: IPNetwork) -> str:
    value = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
    return match(f"@th,{TARGET_BIT},{network.prefixlen}", f"0x{value:x}")
