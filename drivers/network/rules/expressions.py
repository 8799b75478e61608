"""Words of a ruleset in the language of nft (``nft(8)``): integers, a closed set, checked identifiers.  Pure.

Only this file creates a :data:`Word` (a test checks that), and none of its functions accepts a text of a record: a rule
consists of :data:`Plain` words, and of numbers that are formatted here.  The names of a chain and of a device, and the
comment, have types that contain nothing which nft would parse otherwise.

Not nft's JSON: that of nft 1.0.6 (Debian 12) cannot express a ``dynamic`` set, and operators read text.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, NewType, TypeAlias

from bringup.drivers.identifiers import InstanceUuid
from bringup.drivers.network.rules.addresses import IPNetwork
from bringup.drivers.network.rules.vifs import DeviceName, Mac

Word = NewType("Word", str)
"""A part of a rule that is safe to pass to nft."""

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
    """Return one of the fixed words of rules."""
    return Word(text)


def ether_type(*types: EtherType) -> Word:
    """Match the type of a frame's payload."""
    return match(Word("ether type"), one_of(Word(one) for one in types))


def ports(transport: Transport, *, sport: int, dport: int) -> Word:
    """Match both ports."""
    both = (match(port_of(transport, "sport"), number(sport)), match(port_of(transport, "dport"), number(dport)))
    return Word(" ".join(both))


def number(value: int) -> Word:
    """Return a number as a word."""
    return Word(f"{int(value):d}")


def span(first: int, last: int) -> Word:
    """Return a range of numbers as a word."""
    return number(first) if first == last else Word(f"{number(first)}-{number(last)}")


def mac(address: Mac) -> Word:
    """Return a MAC address as a word, from its octets."""
    octets = int(address.replace(":", ""), 16).to_bytes(6, "big")
    return Word(":".join(f"{octet:02x}" for octet in octets))


def ip(network: IPNetwork) -> Word:
    """Return an address or a network as a word, from its number: a parsed object's own text may have a scope."""
    made = IPv4Address if network.version == 4 else IPv6Address  # noqa: PLR2004 - IPv4
    text = str(made(int(network.network_address)))
    return Word(text if network.prefixlen == network.max_prefixlen else f"{text}/{network.prefixlen:d}")


def ip_of(family: Family, part: Address) -> Word:
    """Return the field of an address in the header."""
    return Word(f"{family} {part}")


def port_of(transport: Transport, part: Port) -> Word:
    """Return the field of a port in the header."""
    return Word(f"{transport} {part}")


def icmp_of(kind: Icmp, part: IcmpPart = "type") -> Word:
    """Return the field of the type or code of an ICMP message."""
    return Word(f"{kind} {part}")


def concatenated(*parts: Word) -> Word:
    """Concatenate several fields, or several values."""
    return Word(" . ".join(parts))


def match(left: Word, right: Word, *, op: Operator = "==") -> Word:
    """Return a match: the rule continues if it holds."""
    return Word(f"{left} {op} {right}")


def one_of(values: Iterable[Word]) -> Word:
    """Return an anonymous set."""
    return Word(f"{{ {', '.join(values)} }}")


def bits_of_transport(network: IPNetwork, *, at: int) -> Word:
    """Match the first bits of an address in a transport message, ``at`` bits from its start."""
    value = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
    return Word(f"@th,{at:d},{network.prefixlen:d} == 0x{value:x}")


def is_in_set(key: Word, name: Word) -> Word:
    """Match an element of a set."""
    return Word(f"{key} == @{name}")


def add_to_set(key: Word, name: Word) -> Word:
    """Add an element to a set."""
    return Word(f"update @{name} {{ {key} }}")


def protocol(which: Transport | Icmp | int) -> Word:
    """Match the protocol over IP."""
    return Word(f"meta l4proto == {which if isinstance(which, str) else number(which)}")


def chain(direction: Direction, device: DeviceName) -> Word:
    """Return the name of the chain of a device and direction."""
    return Word(f"{direction}.{device}")


def exchange_set(family: Family, device: DeviceName) -> Word:
    """Return the name of the set of a NIC's UDP exchanges over ``ip`` or ``ip6``."""
    kind: Exchanges = "udp4" if family == "ip" else "udp6"
    return Word(f"{kind}.{device}")


def quoted(device: DeviceName) -> Word:
    """Return the name of a device in quotes."""
    return Word(f'"{device}"')


def comment(instance: InstanceUuid) -> Word:
    """Return the comment that marks the instance of a rule."""
    return Word(f'comment "{instance}"')
