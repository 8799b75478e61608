"""The words of nft (``nft(8)``) of a ruleset: from an integer, a closed set, or a checked identifier.  Pure.

Nothing but this file makes a :data:`Word` (a test sees to it), and none of its functions takes a text of a record:
what stands in a rule is one of :data:`Plain`, or was written here from numbers.  The names of a chain and of a device,
and the comment, are of types that hold nothing which nft would read otherwise.

Not nft's JSON: that of nft 1.0.6 (Debian 12) cannot say that a set is ``dynamic``, and text is what an operator reads.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, NewType, TypeAlias

from bringup.drivers.identifiers import InstanceUuid
from bringup.drivers.network.rules.addresses import IPNetwork
from bringup.drivers.network.rules.vifs import DeviceName, Mac

Word = NewType("Word", str)
"""A part of a rule that nft reads as it is meant."""

Family = Literal["ip", "ip6"]
Transport = Literal["tcp", "udp", "sctp", "dccp", "udplite"]
Icmp = Literal["icmp", "icmpv6"]
Address = Literal["saddr", "daddr"]
Port = Literal["sport", "dport"]
IcmpPart = Literal["type", "code"]
Direction = Literal["from", "to"]
Exchanges = Literal["udp4", "udp6"]
Operator = Literal["==", "!="]
EtherType = Literal["ip", "ip6", "arp", "8021q", "8021ad", "0x8035"]
Field = Literal[
    "ether saddr",
    "arp saddr ether",
    "arp saddr ip",
    "ip frag-off & 0x1fff",
    "frag frag-off",
    "tcp flags & (syn | ack)",
]
IcmpMessage = Literal[
    "echo-reply",
    "destination-unreachable",
    "time-exceeded",
    "parameter-problem",
    "packet-too-big",
    "mld-listener-query",
    "mld-listener-report",
    "mld-listener-done",
    "mld2-listener-report",
    "nd-router-solicit",
    "nd-router-advert",
    "nd-neighbor-solicit",
    "nd-neighbor-advert",
]
Plain: TypeAlias = Field | IcmpMessage | Literal["syn"]

Rule: TypeAlias = tuple[Word, ...]
"""The statements of one rule."""

ACCEPT = Word("accept")
DROP = Word("counter drop")
"""Counted, so that an operator sees what is dropped."""


def plain(text: Plain) -> Word:
    """Take one of the words that rules are made of."""
    return Word(text)


def ether_type(*types: EtherType) -> Word:
    """Match what a frame carries."""
    return match(Word("ether type"), one_of(Word(one) for one in types))


def ports(transport: Transport, *, sport: int, dport: int) -> Word:
    """Match both ports."""
    both = (match(port_of(transport, "sport"), number(sport)), match(port_of(transport, "dport"), number(dport)))
    return Word(" ".join(both))


def number(value: int) -> Word:
    """Write a number."""
    return Word(f"{int(value):d}")


def span(first: int, last: int) -> Word:
    """Write the numbers from one to another."""
    return number(first) if first == last else Word(f"{number(first)}-{number(last)}")


def mac(address: Mac) -> Word:
    """Write a MAC address from its octets."""
    octets = int(address.replace(":", ""), 16).to_bytes(6, "big")
    return Word(":".join(f"{octet:02x}" for octet in octets))


def ip(network: IPNetwork) -> Word:
    """Write an address or a network from its number: a parsed object's own text may have a scope in it."""
    made = IPv4Address if network.version == 4 else IPv6Address  # noqa: PLR2004 - IPv4
    text = str(made(int(network.network_address)))
    return Word(text if network.prefixlen == network.max_prefixlen else f"{text}/{network.prefixlen:d}")


def ip_of(family: Family, part: Address) -> Word:
    """Name an address of the header."""
    return Word(f"{family} {part}")


def port_of(transport: Transport, part: Port) -> Word:
    """Name a port of the header."""
    return Word(f"{transport} {part}")


def icmp_of(kind: Icmp, part: IcmpPart = "type") -> Word:
    """Name what an ICMP message says it is."""
    return Word(f"{kind} {part}")


def joined(*parts: Word) -> Word:
    """Take several fields, or several values, as one."""
    return Word(" . ".join(parts))


def match(left: Word, right: Word, *, op: Operator = "==") -> Word:
    """Let the rule go on where it holds."""
    return Word(f"{left} {op} {right}")


def one_of(values: Iterable[Word]) -> Word:
    """Give a set."""
    return Word(f"{{ {', '.join(values)} }}")


def bits_of_transport(network: IPNetwork, *, at: int) -> Word:
    """Match the first bits of an address that stands in a message of a transport, so many bits from its begin."""
    value = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
    return Word(f"@th,{at:d},{network.prefixlen:d} == 0x{value:x}")


def remembered(key: Word, name: Word) -> Word:
    """Match what a set has."""
    return Word(f"{key} == @{name}")


def remember(key: Word, name: Word) -> Word:
    """Put into a set."""
    return Word(f"update @{name} {{ {key} }}")


def protocol(which: Transport | Icmp | int) -> Word:
    """Match the protocol over IP."""
    return Word(f"meta l4proto == {which if isinstance(which, str) else number(which)}")


def chain(direction: Direction, device: DeviceName) -> Word:
    """Name the chain of a device: another one for each device and direction."""
    return Word(f"{direction}.{device}")


def exchanges(family: Family, device: DeviceName) -> Word:
    """Name the set that remembers a NIC's UDP exchanges over ``ip`` or ``ip6``."""
    kind: Exchanges = "udp4" if family == "ip" else "udp6"
    return Word(f"{kind}.{device}")


def quoted(device: DeviceName) -> Word:
    """Name a device."""
    return Word(f'"{device}"')


def comment(instance: InstanceUuid) -> Word:
    """Say whose a rule is."""
    return Word(f'comment "{instance}"')
