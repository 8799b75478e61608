"""The protocol of a security group rule: a name of a closed set, or a number of one byte.  Pure."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias, TypeGuard

from bringup.drivers.network.expressions import Family, Icmp, Transport
from bringup.drivers.network.vifs import VifProblem
from bringup.drivers.shown import shown

Protocol: TypeAlias = Transport | Icmp | int

NUMBERS: Final[Mapping[int, Protocol]] = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
NAMES: Final[Mapping[str, Protocol]] = {
    "tcp": "tcp",
    "udp": "udp",
    "sctp": "sctp",
    "icmp": "icmp",
    "icmpv6": "icmpv6",
    "ipv6-icmp": "icmpv6",
}
MOST: Final = 255
DIGITS: Final = 3
"""As many as a byte has, leading noughts aside."""


def protocol_of(given: Any, family: Family, what: str) -> Protocol | None:
    """Read a protocol as Neutron gives it; None: any.

    :raises VifProblem: it is none.
    """
    if given is None or (isinstance(given, str) and given in ("", "any", "-1")) or (given == -1 and _is_number(given)):
        return None
    found = _named(given.lower()) if isinstance(given, str) else _numbered(given) if _is_number(given) else None
    if found is None:
        raise VifProblem(f"{what} {shown(given)} is none of tcp, udp, sctp, icmp, icmpv6, any, or a number up to 255")
    # Over IPv6 there is one of the two alone, by whichever name.
    return "icmpv6" if found == "icmp" and family == "ip6" else found


def is_transport(found: Protocol) -> TypeGuard[Transport]:
    """Tell whether it has ports."""
    return found in ("tcp", "udp", "sctp")


def is_icmp(found: Protocol) -> TypeGuard[Icmp]:
    """Tell whether it has types and codes."""
    return found in ("icmp", "icmpv6")


def _is_number(given: Any) -> bool:
    return isinstance(given, int) and not isinstance(given, bool)


def _named(name: str) -> Protocol | None:
    if name.isascii() and name.isdecimal():
        digits = name.lstrip("0") or "0"
        return _numbered(int(digits)) if len(digits) <= DIGITS else None
    return NAMES.get(name)


def _numbered(number: int) -> Protocol | None:
    return NUMBERS.get(number, number) if 0 <= number <= MOST else None
