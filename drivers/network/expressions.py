"""The words of nft (``nft(8)``) that the rules are made of.  Pure.

Not its JSON: that of nft 1.0.6 (Debian 12) cannot say that a set is ``dynamic``, and text is what an operator reads.
Whatever of a record becomes a word here was checked when it was read: names of devices, MACs, addresses, numbers.
"""

from collections.abc import Iterable
from typing import TypeAlias

from bringup.drivers.network.addresses import IPNetwork

Rule: TypeAlias = tuple[str, ...]
"""The statements of one rule."""

ACCEPT = "accept"
DROP = "counter drop"
"""Counted, so that an operator sees what is dropped."""


def joined(*parts: object) -> str:
    """Take several fields, or several values, as one."""
    return " . ".join(str(part) for part in parts)


def match(left: str, right: object, *, op: str = "==") -> str:
    """Let the rule go on where it holds."""
    return f"{left} {op} {right}"


def one_of(values: Iterable[object]) -> str:
    """Give a set."""
    return f"{{ {', '.join(str(value) for value in values)} }}"


def ether_type(*types: str) -> str:
    """Match what a frame carries."""
    return match("ether type", one_of(types))


def protocol(name: str | int) -> str:
    """Match the protocol over IP."""
    return match("meta l4proto", name)


def ports(transport: str, *, sport: int, dport: int) -> str:
    """Match both ports."""
    return f"{match(f'{transport} sport', sport)} {match(f'{transport} dport', dport)}"


def address(network: IPNetwork) -> str:
    """Write an address or a network."""
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
