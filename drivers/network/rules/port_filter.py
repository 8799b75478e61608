"""Filter of what may reach a guest and what it may reach, if its record has ``security_group_rules`` (as in Neutron).

Pure.  Without connection tracking, which bridges do not have on every kernel: a TCP segment that does not open a
connection passes; a UDP exchange that either side was allowed to start is kept in a set of the NIC's own, for
three minutes after its last packet; ICMP answers and errors pass, and so do later fragments.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeGuard, get_args

from bringup.drivers.bounded_repr import bounded_repr
from bringup.drivers.network.rules.addresses import network_of
from bringup.drivers.network.rules.expressions import (
    ACCEPT,
    DROP,
    Address,
    Family,
    Icmp,
    IcmpMessage,
    Port,
    Rule,
    Transport,
    Word,
    add_to_set,
    concatenated,
    ether_type,
    exchange_set,
    icmp_of,
    ip,
    ip_of,
    is_in_set,
    match,
    number,
    one_of,
    plain,
    port_of,
    ports,
    protocol,
    span,
)
from bringup.drivers.network.rules.vifs import DeviceName, Vif, VifProblem, objects

Protocol: TypeAlias = Transport | Icmp | int

NUMBERS: Final[Mapping[int, Protocol]] = {
    1: "icmp",
    6: "tcp",
    17: "udp",
    33: "dccp",
    58: "icmpv6",
    132: "sctp",
    136: "udplite",
}
"""Protocols that have ports, or types and codes."""
NAMES: Final[Mapping[str, int]] = {
    "ah": 51,
    "dccp": 33,
    "egp": 8,
    "esp": 50,
    "gre": 47,
    "hopopt": 0,
    "icmp": 1,
    "icmpv6": 58,
    "igmp": 2,
    "ip": 0,
    "ipip": 4,
    "ipv6-encap": 41,
    "ipv6-frag": 44,
    "ipv6-icmp": 58,
    "ipv6-nonxt": 59,
    "ipv6-opts": 60,
    "ipv6-route": 43,
    "ospf": 89,
    "pgm": 113,
    "rsvp": 46,
    "sctp": 132,
    "tcp": 6,
    "udp": 17,
    "udplite": 136,
    "vrrp": 112,
}
"""Every name that Neutron's API accepts, with its number there (``IP_PROTOCOL_MAP`` of neutron-lib)."""
TRANSPORTS: Final = get_args(Transport)
MOST: Final = 255
DIGITS: Final = 3
"""Digits of a byte, without leading zeros."""


def protocol_of(given: Any, family: Family, what: str) -> Protocol | None:
    """Parse a protocol of Neutron: a name of a closed set, or a number of one byte; None: any.

    :raises VifProblem: it is invalid.
    """
    if given is None or (isinstance(given, str) and given in ("", "any", "-1")) or (given == -1 and _is_number(given)):
        return None
    found = _named(given.lower()) if isinstance(given, str) else _numbered(given) if _is_number(given) else None
    if found is None:
        raise VifProblem(
            f"{what} {bounded_repr(given)} is not a protocol that Neutron knows by name, nor a number up to {MOST}"
        )
    # IPv6 has only one of the two, by either name.
    return "icmpv6" if found == "icmp" and family == "ip6" else found


def is_transport(found: Protocol) -> TypeGuard[Transport]:
    """Check whether a protocol has ports."""
    return found in TRANSPORTS


def is_icmp(found: Protocol) -> TypeGuard[Icmp]:
    """Check whether a protocol has types and codes."""
    return found in ("icmp", "icmpv6")


def _is_number(given: Any) -> bool:
    return isinstance(given, int) and not isinstance(given, bool)


def _named(name: str) -> Protocol | None:
    if name.isascii() and name.isdecimal():
        digits = name.lstrip("0") or "0"
        return _numbered(int(digits)) if len(digits) <= DIGITS else None
    number = NAMES.get(name)
    return None if number is None else _numbered(number)


def _numbered(number: int) -> Protocol | None:
    return NUMBERS.get(number, number) if 0 <= number <= MOST else None


UDP_TIMEOUT_S = 180
UDP_EXCHANGES = 4096
"""Most exchanges that are kept for one NIC; further ones wait for a place, and affect no other NIC."""
FAMILIES: Final[Mapping[str, Family]] = {"IPv4": "ip", "IPv6": "ip6"}
ICMP_ANSWERS: Final[tuple[IcmpMessage, ...]] = (
    "echo-reply",
    "destination-unreachable",
    "time-exceeded",
    "parameter-problem",
)
ICMPV6_ANSWERS: Final[tuple[IcmpMessage, ...]] = (
    "echo-reply",
    "destination-unreachable",
    "packet-too-big",
    "time-exceeded",
    "parameter-problem",
)
# IPv6 does not work without them (Neutron allows the same).
NEIGHBOURS: Final[tuple[IcmpMessage, ...]] = (
    "mld-listener-query",
    "mld-listener-report",
    "mld-listener-done",
    "mld2-listener-report",
    "nd-router-solicit",
    "nd-router-advert",
    "nd-neighbor-solicit",
    "nd-neighbor-advert",
)
# They have no ports, and are useless without the first fragment, which has.
LATER_FRAGMENTS: Final = (
    match(plain("ip frag-off & 0x1fff"), number(0), op="!="),
    match(plain("frag frag-off"), number(0), op="!="),
)
# A TCP segment that opens a connection has SYN and not ACK.
NO_OPENING: Final = match(plain("tcp flags & (syn | ack)"), plain("syn"), op="!=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """Direction of packets through a NIC, and which of their ends is the other side."""

    name: str
    """Neutron's name."""
    peer: Address
    """Which address is that of the other side."""
    peer_port: Port
    own_port: Port
    asks: tuple[Word, ...]
    """What passes without a rule: DHCP."""


INGRESS = Direction(
    name="ingress",
    peer="saddr",
    peer_port="sport",
    own_port="dport",
    asks=(ports("udp", sport=67, dport=68), ports("udp", sport=547, dport=546)),
)
EGRESS = Direction(
    name="egress",
    peer="daddr",
    peer_port="dport",
    own_port="sport",
    asks=(ports("udp", sport=68, dport=67), ports("udp", sport=546, dport=547)),
)


def security_group_rules(vif: Vif) -> Sequence[Mapping[str, Any]] | None:
    """Return the security group rules of a NIC in its record; None: it has none, so all passes."""
    given = vif.plain.get("security_group_rules", vif.details.get("security_group_rules"))
    return None if given is None else objects(given, "security_group_rules")


def rules_of_direction(direction: Direction, device: DeviceName, given: Sequence[Mapping[str, Any]]) -> Iterator[Rule]:
    """Return the rules for one direction; what none of them accepts is dropped.

    :raises VifProblem: a security group rule cannot be expressed in nftables.
    """
    if direction is INGRESS:
        yield ether_type("arp"), ACCEPT
    yield from ((later, ACCEPT) for later in LATER_FRAGMENTS)
    yield protocol("tcp"), NO_OPENING, ACCEPT
    for family in FAMILIES.values():
        key, name = _exchange(direction, family), exchange_set(family, device)
        yield is_in_set(key, name), add_to_set(key, name), ACCEPT
    yield match(icmp_of("icmp"), one_of(plain(one) for one in ICMP_ANSWERS)), ACCEPT
    yield match(icmp_of("icmpv6"), one_of(plain(one) for one in [*ICMPV6_ANSWERS, *NEIGHBOURS])), ACCEPT
    yield from ((asks, ACCEPT) for asks in direction.asks)
    for index, rule in enumerate(given):
        if rule.get("direction") == direction.name:
            yield from _rule(direction, device, rule, f"security_group_rules[{index}]")
        elif rule.get("direction") not in (INGRESS.name, EGRESS.name):
            raise VifProblem(f'security_group_rules[{index}].direction is neither "ingress" nor "egress"')
    yield (DROP,)


def _rule(direction: Direction, device: DeviceName, rule: Mapping[str, Any], what: str) -> Iterator[Rule]:
    for unknown in ("remote_group_id", "remote_address_group_id"):
        if rule.get(unknown) is not None:
            raise VifProblem(f"{what}.{unknown}: the members of a group are not in the record; use remote_ip_prefix")
    family = _family(rule, what)
    carried = protocol_of(rule.get("protocol"), family, f"{what}.protocol")
    matches = (ether_type(family), *_remote(direction, family, rule, what), *_service(carried, rule, what))
    if carried in (None, "udp"):
        # A rule of its own: if the set is full it ends here, and the packet still passes.
        key = _exchange(direction, family)
        yield *matches, protocol("udp"), add_to_set(key, exchange_set(family, device))
    yield *matches, ACCEPT


def _family(rule: Mapping[str, Any], what: str) -> Family:
    given = rule.get("ethertype", "IPv4")
    family = FAMILIES.get(given) if isinstance(given, str) else None
    if family is None:
        raise VifProblem(f'{what}.ethertype is neither "IPv4" nor "IPv6"')
    return family


def _remote(direction: Direction, family: Family, rule: Mapping[str, Any], what: str) -> Rule:
    prefix = rule.get("remote_ip_prefix")
    if prefix is None:
        return ()
    network = network_of(prefix, f"{what}.remote_ip_prefix")
    if (network.version == 4) != (family == "ip"):  # noqa: PLR2004 - IPv4
        raise VifProblem(f"{what}.remote_ip_prefix {bounded_repr(prefix)} is not of its ethertype")
    return () if network.prefixlen == 0 else (match(ip_of(family, direction.peer), ip(network)),)


def _service(carried: Protocol | None, rule: Mapping[str, Any], what: str) -> Rule:
    if carried is None:
        return ()
    most = 255 if is_icmp(carried) else 65535
    low, high = (_number(rule, key, most, what) for key in ("port_range_min", "port_range_max"))
    if is_icmp(carried):
        # Neutron keeps the type in one and the code in the other.
        kinds = ((icmp_of(carried, "type"), low), (icmp_of(carried, "code"), high))
        return protocol(carried), *(match(name, number(value)) for name, value in kinds if value is not None)
    if not is_transport(carried) or (low is None and high is None):
        return (protocol(carried),)
    first, last = (high if low is None else low), (low if high is None else high)
    if first is None or last is None or first > last:
        raise VifProblem(f"{what}.port_range_min is more than its port_range_max")
    return (match(port_of(carried, "dport"), span(first, last)),)


def _number(rule: Mapping[str, Any], key: str, most: int, what: str) -> int | None:
    value = rule.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most):
        raise VifProblem(f"{what}.{key} {bounded_repr(value)} is no number from 0 to {most}")
    return value


def _exchange(direction: Direction, family: Family) -> Word:
    return concatenated(
        ip_of(family, direction.peer), port_of("udp", direction.peer_port), port_of("udp", direction.own_port)
    )
