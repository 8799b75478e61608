"""The protocol of a security group rule: a name of a closed set, or a number of one byte.  Pure."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias, TypeGuard, get_args

from bringup.drivers.bounded_repr import bounded_repr
from bringup.drivers.network.rules.expressions import Family, Icmp, Transport
from bringup.drivers.network.rules.vifs import VifProblem

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
"""Those that have ports, or types and codes."""
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
"""Every name that Neutron's API takes, with its number there (``IP_PROTOCOL_MAP`` of neutron-lib)."""
TRANSPORTS: Final = get_args(Transport)
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
        raise VifProblem(
            f"{what} {bounded_repr(given)} is not a protocol that Neutron knows by name, nor a number up to {MOST}"
        )
    # Over IPv6 there is one of the two alone, by whichever name.
    return "icmpv6" if found == "icmp" and family == "ip6" else found


def is_transport(found: Protocol) -> TypeGuard[Transport]:
    """Tell whether it has ports."""
    return found in TRANSPORTS


def is_icmp(found: Protocol) -> TypeGuard[Icmp]:
    """Tell whether it has types and codes."""
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
