"""What may reach a guest and what it may reach, where its record has ``security_group_rules`` (Neutron's shape).

Pure.  Without connection tracking, which bridges do not have on every kernel: a TCP segment that does not open a
connection passes; a UDP exchange that either side was allowed to begin is remembered in a set of the NIC's own, for
three minutes after its last packet; ICMP answers and errors pass, and so do later fragments.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bringup.drivers.network.addresses import network_of
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
    protocol,
)
from bringup.drivers.network.vifs import Vif, VifProblem, objects

UDP_TIMEOUT_S = 180
UDP_EXCHANGES = 4096
"""Most that one NIC has remembered; further ones wait for a place, and hurt no other NIC."""
FAMILIES = {"IPv4": "ip", "IPv6": "ip6"}
NUMBERS = {"1": "icmp", "6": "tcp", "17": "udp", "58": "icmpv6", "132": "sctp", "ipv6-icmp": "icmpv6"}
TRANSPORTS = ("tcp", "udp", "sctp")
ICMP_ANSWERS = ("echo-reply", "destination-unreachable", "time-exceeded", "parameter-problem")
ICMPV6_ANSWERS = ("echo-reply", "destination-unreachable", "packet-too-big", "time-exceeded", "parameter-problem")
# Without them there is no IPv6 (Neutron lets the same pass).
NEIGHBOURS = (
    "mld-listener-query",
    "mld-listener-report",
    "mld-listener-done",
    "mld2-listener-report",
    "nd-router-solicit",
    "nd-router-advert",
    "nd-neighbor-solicit",
    "nd-neighbor-advert",
)
# They have no ports, and are nothing without the first, which has.
LATER_FRAGMENTS = (match("ip frag-off & 0x1fff", 0, op="!="), match("frag frag-off", 0, op="!="))
# A TCP segment that opens a connection has SYN and not ACK.
NO_OPENING = match("tcp flags & (syn | ack)", "syn", op="!=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """The ways that packets take through a NIC, and which end of them is the other side."""

    name: str
    """As Neutron calls it."""
    peer: str
    """Which address is the other side's."""
    peer_port: str
    own_port: str
    asks: tuple[str, ...]
    """What passes without a rule: how a guest gets its addresses."""


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


def exchanges(family: str, device: str) -> str:
    """Name the set that remembers a NIC's UDP exchanges over ``ip`` or ``ip6``."""
    return f"{'udp4' if family == 'ip' else 'udp6'}.{device}"


def rules_of(vif: Vif) -> Sequence[Mapping[str, Any]] | None:
    """Give the security group rules that a record has for a NIC; None: it has none, so all passes."""
    given = vif.plain.get("security_group_rules", vif.details.get("security_group_rules"))
    return None if given is None else objects(given, "security_group_rules")


def through(direction: Direction, device: str, given: Sequence[Mapping[str, Any]]) -> Iterator[Rule]:
    """Give the rules for one direction; what none of them lets through is dropped.

    :raises VifProblem: a security group rule cannot be put into nftables' words.
    """
    if direction is INGRESS:
        yield ether_type("arp"), ACCEPT
    yield from ((later, ACCEPT) for later in LATER_FRAGMENTS)
    yield protocol("tcp"), NO_OPENING, ACCEPT
    for family in FAMILIES.values():
        key, name = _exchange(direction, family), exchanges(family, device)
        yield match(key, f"@{name}"), _remember(key, name), ACCEPT
    yield match("icmp type", one_of(ICMP_ANSWERS)), ACCEPT
    yield match("icmpv6 type", one_of([*ICMPV6_ANSWERS, *NEIGHBOURS])), ACCEPT
    yield from ((asks, ACCEPT) for asks in direction.asks)
    for number, rule in enumerate(given):
        if rule.get("direction") == direction.name:
            yield from _rule(direction, device, rule, f"security_group_rules[{number}]")
        elif rule.get("direction") not in (INGRESS.name, EGRESS.name):
            raise VifProblem(f'security_group_rules[{number}].direction is neither "ingress" nor "egress"')
    yield (DROP,)


def _rule(direction: Direction, device: str, rule: Mapping[str, Any], what: str) -> Iterator[Rule]:
    for unknown in ("remote_group_id", "remote_address_group_id"):
        if rule.get(unknown) is not None:
            raise VifProblem(f"{what}.{unknown}: who is in a group is not in the record; give remote_ip_prefix")
    family = FAMILIES.get(rule.get("ethertype", "IPv4"))
    if family is None:
        raise VifProblem(f'{what}.ethertype is neither "IPv4" nor "IPv6"')
    transport = _transport(rule, family, what)
    matches = (ether_type(family), *_remote(direction, family, rule, what), *_service(transport, rule, what))
    if transport in (None, "udp"):
        # By itself: where the set is full the rule ends here, and the packet still passes.
        key = _exchange(direction, family)
        yield *matches, protocol("udp"), _remember(key, exchanges(family, device))
    yield *matches, ACCEPT


def _transport(rule: Mapping[str, Any], family: str, what: str) -> str | None:
    given = rule.get("protocol")
    if given in (None, "", "any", -1, "-1"):
        return None
    name = NUMBERS.get(str(given).lower(), str(given).lower())
    if name == "icmp" and family == "ip6":
        return "icmpv6"
    if name in (*TRANSPORTS, "icmp", "icmpv6") or (name.isascii() and name.isdecimal() and int(name) <= 255):  # noqa: PLR2004 - a byte
        return name
    raise VifProblem(f"{what}.protocol {given!r} is none of tcp, udp, sctp, icmp, icmpv6, any, or a number up to 255")


def _remote(direction: Direction, family: str, rule: Mapping[str, Any], what: str) -> Rule:
    prefix = rule.get("remote_ip_prefix")
    if prefix is None:
        return ()
    network = network_of(prefix, f"{what}.remote_ip_prefix")
    if (network.version == 4) != (family == "ip"):  # noqa: PLR2004 - IPv4
        raise VifProblem(f"{what}.remote_ip_prefix {prefix!r} is not of its ethertype")
    return () if network.prefixlen == 0 else (match(f"{family} {direction.peer}", address(network)),)


def _service(transport: str | None, rule: Mapping[str, Any], what: str) -> Rule:
    if transport is None:
        return ()
    low, high = (_number(rule, key, transport, what) for key in ("port_range_min", "port_range_max"))
    if transport in ("icmp", "icmpv6"):
        # Neutron keeps the type in one and the code in the other.
        kinds = ((name, value) for name, value in (("type", low), ("code", high)) if value is not None)
        return protocol(transport), *(match(f"{transport} {name}", value) for name, value in kinds)
    if transport not in TRANSPORTS or (low is None and high is None):
        return (protocol(int(transport) if transport.isdecimal() else transport),)
    first, last = (high if low is None else low), (low if high is None else high)
    if first is None or last is None or first > last:
        raise VifProblem(f"{what}.port_range_min is more than its port_range_max")
    return (match(f"{transport} dport", first if first == last else f"{first}-{last}"),)


def _number(rule: Mapping[str, Any], key: str, transport: str, what: str) -> int | None:
    value = rule.get(key)
    most = 65535 if transport in TRANSPORTS else 255
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most):
        raise VifProblem(f"{what}.{key} {value!r} is no number from 0 to {most}")
    return value


def _exchange(direction: Direction, family: str) -> str:
    return joined(f"{family} {direction.peer}", f"udp {direction.peer_port}", f"udp {direction.own_port}")


def _remember(key: str, name: str) -> str:
    return f"update @{name} {{ {key} }}"
