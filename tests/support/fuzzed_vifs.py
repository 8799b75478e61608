"""VIFs on a Linux bridge, each with what Neutron allows and with what nobody should ever write."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from support.mutating import mutated
from support.network import GuestOf, a_vif, an_ovs_vif, hybrid, ip_of, ipv6_of, mac_of
from support.records import uuid_of

PREFIXES: Final = (
    "0.0.0.0/0",
    "::/0",
    "0.0.0.0",
    "::",
    "0.0.0.0/1",
    "128.0.0.0/1",
    "0.0.0.1",
    "10.0.0.0/8",
    "10.0.0.0/16",
    "10.0.0.1/255.255.0.0",
    "10.9.8.7/13",
    "255.255.255.255",
    "224.0.0.0/4",
    "2001:db8::/32",
    "2001:DB8:0:0:0:0:0:7",
    "2001:db8::ffff:ffff:ffff:ffff/61",
    "fe80::/10",
    "::ffff:10.0.0.1",
    "::ffff:0:0/96",
    "ff02::1",
    "::1/127",
)
WRONG_PREFIXES: Final = (
    "fe80::1%eth0",
    "fe80::%x } accept\nflush ruleset\n#/64",
    "::%/0",
    "10.0.0.0/33",
    "10.0.0.0/8 accept",
    "0x0a000001",
    "010.0.0.1",
    "10.0.0.1\n",
    "::/129",
)
PROTOCOLS: Final[tuple[Any, ...]] = (
    *(None, "", "any", -1, "-1", "tcp", "TCP", "udp", "sctp", "icmp", "icmpv6", "ipv6-icmp", "6", "006", 17, 47, "132"),
    *("255", 255, 0, "0", 1, 58, "gre", "dccp", 136, "VRRP", "ip", "ipv6-frag"),
    *(256, "6" * 5000, "0" * 5000 + "6", 10**400, True, 6.0, [], {}, "tcp accept"),
)
NUMBERS: Final = (None, None, 0, 1, 8, 22, 255, 256, 65535, 65536, -1, True, "22", 10**400)
FAMILIES: Final[tuple[Any, ...]] = ("IPv4", "IPv6", "ipv4", {}, None)
DIRECTIONS: Final = ("ingress", "egress")


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """A guest with one NIC, and the number that it was made from."""

    seed: int
    guest: GuestOf


def fuzzed(seed: int) -> Fuzzed:
    """Make a guest from a number; others have other devices and UUIDs, mostly."""
    chance = Random(seed)  # noqa: S311 - the same each time, and nobody's secret
    number = 1 + seed % 0xFFFF
    plain = a_vif(number) if chance.randrange(5) else an_ovs_vif(number, details=hybrid())
    if chance.randrange(4):
        plain["allowed_address_pairs"] = [*_pairs(chance, number)]
    if chance.randrange(3):
        plain["security_group_rules"] = [_rule(chance) for _ in range(chance.randrange(4))]
    if chance.randrange(6) == 0:
        plain["network"]["subnets"] = []
    if chance.randrange(4) == 0:
        changed = mutated(chance, plain)
        plain = changed if isinstance(changed, dict) else {"network": changed}
    return Fuzzed(seed, GuestOf([plain], uuid=uuid_of(1 + seed)))


def fuzzed_from(first: int, count: int) -> Iterator[Fuzzed]:
    """Make so many."""
    return map(fuzzed, range(first, first + count))


def _prefix(chance: Random) -> Any:
    return chance.choice(PREFIXES) if chance.randrange(40) else chance.choice(WRONG_PREFIXES)


def _pairs(chance: Random, number: int) -> Iterator[dict[str, Any]]:
    for _ in range(chance.randrange(5)):
        own = (ip_of(number), ipv6_of(number), f"{ip_of(number)}/24")
        pair: dict[str, Any] = {"ip_address": _prefix(chance) if chance.randrange(4) else chance.choice(own)}
        if chance.randrange(3) == 0:
            pair["mac_address"] = chance.choice((mac_of(number), mac_of(number).upper(), mac_of(1 + number), None))
        yield pair


def _rule(chance: Random) -> dict[str, Any]:
    # Most are right: of a guest with one that is not, nothing is made.
    good = chance.randrange(8) > 0
    family = chance.choice(FAMILIES[:2] if good else FAMILIES)
    rule: dict[str, Any] = {"direction": chance.choice(DIRECTIONS), "ethertype": family}
    rule["protocol"] = chance.choice(PROTOCOLS[:29] if good else PROTOCOLS)
    if chance.randrange(2):
        rule["port_range_min"] = chance.choice(NUMBERS[:7] if good else NUMBERS)
        rule["port_range_max"] = 255 if good and rule["port_range_min"] is not None else chance.choice(NUMBERS)
    if chance.randrange(2):
        of_family = [one for one in PREFIXES if (":" in one) == (family == "IPv6")]
        rule["remote_ip_prefix"] = chance.choice(of_family) if good else _prefix(chance)
    return rule
