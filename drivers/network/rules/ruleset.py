"""Our table: the rules of each instance, the transactions that write them, and a form that can be compared.  Pure.

The table is ``bridge bringup``.  Two base chains send each packet, by the name of its device, to the chain of that
device; so a NIC costs one look-up, and rules may be there before the device is::

    map from-guests { "tapX" : jump from.tapX }      chain from.tapX { what it may send }
    map to-guests   { "tapX" : jump to.tapX }        chain to.tapX   { what may reach it }, sets udp4.tapX, udp6.tapX

The first rule of ``from.tapX`` has the instance's UUID as its comment: from that a new process reads whose it is.
A transaction creates what it needs before it uses or deletes it: it works on any former state, and may be repeated.
Restoring is a replay: the table as it was read first, then the latest rules of each instance.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from bringup.drivers.base import DriverError, Guest
from bringup.drivers.identifiers import InstanceUuid, canonical_uuid
from bringup.drivers.network.rules.addresses import allowed_addresses
from bringup.drivers.network.rules.expressions import (
    ACCEPT,
    DROP,
    Direction,
    Family,
    Rule,
    chain,
    comment,
    ether_type,
    exchange_set,
    quoted,
)
from bringup.drivers.network.rules.port_filter import (
    EGRESS,
    INGRESS,
    UDP_EXCHANGES,
    UDP_TIMEOUT_S,
    rules_of_direction,
    security_group_rules,
)
from bringup.drivers.network.rules.spoofing import spoofing_rules
from bringup.drivers.network.rules.vifs import DeviceName, Vif, VifProblem, device_name, flag_of, vifs_of

TABLE = "bridge bringup"
"""Family and name."""
FAMILIES: Final[Mapping[Family, str]] = {"ip": "ipv4_addr", "ip6": "ipv6_addr"}
FROM: Final = "from"
TO: Final = "to"
BASE: Final[Mapping[Direction, tuple[str, str]]] = {FROM: ("prerouting", "iifname"), TO: ("postrouting", "oifname")}
PRIORITY = -200
"""Priority of filters in bridges (``filter``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Rules for what one NIC may send, and what may reach it (None: anything)."""

    from_guest: tuple[Rule, ...]
    to_guest: tuple[Rule, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """Rules that replace all of an instance, by device."""

    instance: InstanceUuid
    filters: Mapping[DeviceName, Filter] = field(default_factory=dict)


Owned = Mapping[str, frozenset[DeviceName]]
"""The devices of each instance in the table."""


def is_filtered(vif: Vif) -> bool:
    """Check whether bringup filters a NIC.

    Not: one that is on no Linux bridge; one whose port security is off; one that Neutron filters (``port_filter``, as
    Nova's ``is_neutron_filtering_enabled``): Neutron has address pairs that the info cache lacks.

    :raises VifProblem: whether its port security is on cannot be read.
    """
    hybrid = vif.type == "ovs" and vif.has("ovs_hybrid_plug")
    if not (vif.type == "bridge" or hybrid) or vif.has("port_filter"):
        return False
    enabled = (
        flag_of(vif.plain.get("port_security_enabled"), "port_security_enabled"),
        flag_of(vif.details.get("port_security_enabled"), "details.port_security_enabled"),
    )
    return False not in enabled


def replacement(guest: Guest) -> Replacement:
    """Return the rules for an instance.

    :raises DriverError: its record has an invalid value.
    """
    filters = {}
    for vif in vifs_of(guest):
        try:
            if isinstance(vif, VifProblem):
                raise vif
            if is_filtered(vif):
                filters[vif.device] = filter_of(vif)
        except VifProblem as problem:
            what = f"VIF {vif.id} (device {vif.device}): " if isinstance(vif, Vif) else ""
            raise DriverError(f"cannot filter the packets of instance {guest.uuid}: {what}{problem}") from None
    return Replacement(instance=instance_of(guest.uuid), filters=filters)


def instance_of(uuid: str) -> InstanceUuid:
    """Return the UUID of an instance in the spelling of a ruleset.

    :raises DriverError: it is no UUID.
    """
    try:
        return canonical_uuid(uuid)
    except ValueError as error:
        raise DriverError(f"cannot filter the packets of an instance: {error}") from None


def filter_of(vif: Vif) -> Filter:
    """Return the filter of a NIC.

    :raises VifProblem: the record has an invalid value.
    """
    not_spoofed = tuple(spoofing_rules(allowed_addresses(vif)))
    given = security_group_rules(vif)
    if given is None:
        # IP that passed so far is not spoofed; what is no IP does not belong on a bridge of guests.
        return Filter(from_guest=(*not_spoofed, (ether_type("ip", "ip6"), ACCEPT), (DROP,)))
    return Filter(
        from_guest=(*not_spoofed, *rules_of_direction(EGRESS, vif.device, given)),
        to_guest=tuple(rules_of_direction(INGRESS, vif.device, given)),
    )


def base() -> Iterator[str]:
    """Return the lines that create the table with its maps and base chains, if they are missing."""
    yield f"add table {TABLE}"
    for direction, (hook, name) in BASE.items():
        guests = f"{TABLE} {direction}-guests"
        yield f"add map {guests} {{ type ifname : verdict; }}"
        yield f"add chain {guests} {{ type filter hook {hook} priority {PRIORITY}; policy accept; }}"
        yield f"flush chain {guests}"
        yield f"add rule {guests} {name} vmap @{direction}-guests"


def transaction(replacements: Iterable[Replacement], had: Owned) -> str:
    """Return the input of ``nft -f -``, applied as a whole or not; ``had`` has the former devices of each instance."""
    wanted = [*replacements]
    lines = [*base()]
    # A port that moved from one instance to another has the rules of the new one.
    stay = {device for one in wanted for device in one.filters}
    gone = {device for one in wanted for device in had.get(one.instance, ())} - stay
    for device in sorted(gone):
        lines += _remove(device)
    for one in wanted:
        for device, rules in one.filters.items():
            lines += _put(device, rules, one.instance)
    return "\n".join([*lines, ""])


def devices_after(replacements: Iterable[Replacement], had: Owned) -> dict[str, frozenset[DeviceName]]:
    """Return the devices that each instance has rules for after a transaction."""
    filters: dict[str, Mapping[DeviceName, Filter]] = {one.instance: one.filters for one in replacements}
    owners = {device: owner for owner, devices in had.items() if owner not in filters for device in devices}
    for instance, devices in filters.items():
        owners |= dict.fromkeys(devices, instance)
    found: dict[str, set[DeviceName]] = defaultdict(set)
    for device, instance in owners.items():
        found[instance].add(device)
    return {instance: frozenset(devices) for instance, devices in found.items()}


def has_table(listing: str) -> bool:
    """Check in the output of ``nft -j list tables`` whether our table exists."""
    tables = (entry.get("table", {}) for entry in json.loads(listing)["nftables"])
    return TABLE in (f"{table.get('family')} {table.get('name')}" for table in tables)


def devices_in(listing: str) -> dict[str, frozenset[DeviceName]]:
    """Return the devices that each instance has rules for, from ``nft -j list table``; foreign rules are ignored."""
    found: dict[str, set[DeviceName]] = defaultdict(set)
    for entry in json.loads(listing)["nftables"]:
        rule = entry.get("rule", {})
        direction, _, device = rule.get("chain", "").partition(".")
        if direction == FROM:
            with suppress(VifProblem, ValueError):
                found[canonical_uuid(rule.get("comment"))].add(device_name(device, "device"))
    return {instance: frozenset(devices) for instance, devices in found.items()}


def _put(device: DeviceName, rules: Filter, instance: InstanceUuid) -> Iterator[str]:
    yield from _empty_chain(FROM, device)
    if rules.to_guest is None:
        yield from _remove_way(TO, device)
        yield from _remove_sets(device)
    else:
        yield from _empty_chain(TO, device)
        yield from _sets(device)
        yield from (_rule(TO, device, rule) for rule in rules.to_guest)
        yield f"add element {_element(TO, device)}"
    first, *others = rules.from_guest
    yield _rule(FROM, device, (*first, comment(instance)))
    yield from (_rule(FROM, device, rule) for rule in others)
    yield f"add element {_element(FROM, device)}"


def _remove(device: DeviceName) -> Iterator[str]:
    yield from _remove_way(FROM, device)
    yield from _remove_way(TO, device)
    yield from _remove_sets(device)


def _remove_way(direction: Direction, device: DeviceName) -> Iterator[str]:
    yield from _empty_chain(direction, device)
    yield f"add element {_element(direction, device)}"
    yield f"delete element {_element(direction, device)}"
    yield f"delete chain {TABLE} {chain(direction, device)}"


def _empty_chain(direction: Direction, device: DeviceName) -> Iterator[str]:
    yield f"add chain {TABLE} {chain(direction, device)}"
    yield f"flush chain {TABLE} {chain(direction, device)}"


def _sets(device: DeviceName) -> Iterator[str]:
    for family, kind in FAMILIES.items():
        name = f"{TABLE} {exchange_set(family, device)}"
        limits = f"flags dynamic, timeout; timeout {UDP_TIMEOUT_S}s; size {UDP_EXCHANGES};"
        yield f"add set {name} {{ type {kind} . inet_service . inet_service; {limits} }}"


def _remove_sets(device: DeviceName) -> Iterator[str]:
    yield from _sets(device)
    yield from (f"delete set {TABLE} {exchange_set(family, device)}" for family in FAMILIES)


def _element(direction: Direction, device: DeviceName) -> str:
    return f"{TABLE} {direction}-guests {{ {quoted(device)} : jump {chain(direction, device)} }}"


def _rule(direction: Direction, device: DeviceName, rule: Rule) -> str:
    return f"add rule {TABLE} {chain(direction, device)} {' '.join(rule)}"


# Recent exchanges of guests: they change all the time.
_EXCHANGES: Final = re.compile(r"(\bset \S+ \{[^{}]*?)\belements = \{[^{}]*\}")


@dataclass(slots=True)
class RulesetHistory:
    """The table as it was read first, and the rules that were applied since."""

    found: str = ""
    """The table as ``nft list table`` wrote it when it was opened."""
    had: Owned = field(default_factory=dict)
    """Devices of each instance in it."""
    last: dict[str, Replacement] = field(default_factory=dict)

    def add(self, one: Replacement) -> None:
        """Record applied rules; the latest are replayed last."""
        self.last.pop(one.instance, None)
        if one.filters or one.instance in self.had:
            self.last[one.instance] = one

    def replay(self) -> str:
        """Return the transaction after which the table is as it should be, whatever it is now."""
        lines = [f"add table {TABLE}", f"delete table {TABLE}", _EXCHANGES.sub(r"\1", self.found)]
        return "\n".join([*lines, transaction(self.last.values(), self.had)])


def comparable(listing: str) -> tuple[str, ...]:
    """Return the output of ``nft -j list table`` without what changes by itself, for comparison."""
    things: list[str] = []
    rules: dict[str, list[str]] = defaultdict(list)
    for entry in json.loads(listing)["nftables"]:
        ((kind, thing),) = entry.items()
        if kind == "metainfo":
            continue
        plain = {key: value for key, value in thing.items() if key not in ("handle", "index")}
        if kind == "rule":
            plain["expr"] = [_uncounted(statement) for statement in plain.get("expr", ())]
            rules[plain["chain"]].append(_sorted_json(plain))
            continue
        elements = plain.pop("elem", [])
        if kind == "map":
            plain["elem"] = sorted(map(_sorted_json, elements))
        things.append(f"{kind} {_sorted_json(plain)}")
    # Only the order of rules matters.
    return (*sorted(things), *(text for chain in sorted(rules) for text in rules[chain]))


def _uncounted(statement: Any) -> Any:
    return {"counter": None} if isinstance(statement, dict) and "counter" in statement else statement


def _sorted_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
