"""VIFs to ``nft``: every ruleset that is made is one that nft takes, and has no line but ours."""

import ast
import itertools
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import bringup.drivers.network.rules.expressions as only_maker
from bringup.drivers.base import DriverError
from bringup.drivers.network.rules.port_filter import NAMES
from bringup.drivers.network.rules.ruleset import Replacement, replacement, transaction
from support.fuzzed_vifs import fuzzed_from
from support.fuzzing import FULL, Border
from support.namespaces import new_network_namespace
from support.network import GuestOf, a_vif
from support.nft_lines import foreign_lines
from support.programs import needs
from support.records import uuid_of

BORDER = "VIFs to nft"
BATCH = 100
"""So many a transaction: nft takes longer for each of more."""
PART = 2000
PARTS = 25 if FULL else 1


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_every_ruleset_of_a_fuzzed_vif_is_taken_by_nft_and_has_no_foreign_line(border: Border, part: int) -> None:
    needs("nft")
    made: list[Replacement] = []
    for one in fuzzed_from(part * PART, PART):
        with border.one(DriverError):
            made.append(replacement(one.guest))
    filtered = [one for one in made if one.filters]
    assert PART // 3 < len(filtered) < PART
    assert not foreign_lines(transaction(filtered, {}))
    with new_network_namespace():
        for first in range(0, len(filtered), BATCH):
            border.otherwise += (refused := _refused(filtered[first : first + BATCH])) != ""
            assert not refused


def _refused(some: Sequence[Replacement]) -> str:
    """Return what nft says of the smallest part of a transaction that it refuses."""
    text = transaction(some, {})
    said = subprocess.run(["nft", "-c", "-f", "-"], input=text, capture_output=True, text=True, check=False)  # noqa: S607 - wherever it is
    if said.returncode == 0:
        return ""
    middle = len(some) // 2
    halves = [some[:middle], some[middle:]] if middle else []
    return next(filter(None, map(_refused, halves)), f"{said.stderr}\n{text}")


FAMILIES = {"IPv4": ("10.1.0.0/16", "0.0.0.0/0"), "IPv6": ("::ffff:10.1.0.0/112", "::/0")}
ENDS = ((0, 0), (0, 65535), (1, 65535), (65535, 65535))
PORTS: tuple[dict[str, int], ...] = ({}, *({"port_range_min": low, "port_range_max": high} for low, high in ENDS))
TYPES: tuple[dict[str, int], ...] = ({}, {"port_range_min": 0}, {"port_range_min": 255, "port_range_max": 255})


def legal_rules() -> Iterator[dict[str, object]]:
    """Return a rule of each sort that Neutron's API takes: its protocols by name and number, ports at both ends."""
    protocols = (None, "any", *NAMES, *map(str, range(256)))
    for which, (family, prefixes) in itertools.product(protocols, FAMILIES.items()):
        kinds = TYPES if which in ("icmp", "icmpv6", "ipv6-icmp", "1", "58") else PORTS
        for direction, prefix, kind in zip(
            itertools.cycle(("ingress", "egress")), itertools.cycle((None, *prefixes)), kinds, strict=False
        ):
            yield {
                "direction": direction,
                "ethertype": family,
                "protocol": which,
                "remote_ip_prefix": prefix,
                "remote_group_id": None,
                **kind,
            }


def test_every_rule_that_neutron_takes_is_one_that_nft_takes() -> None:
    needs("nft")
    rules = [*legal_rules()]
    members = [{**RULE, "remote_ip_prefix": f"10.{n // 256}.{n % 256}.0/31"} for n in range(3000)]
    pairs = [{"ip_address": f"10.{n // 256}.{n % 256}.0/30"} for n in range(1000)]
    guests = [GuestOf([a_vif(1, security_group_rules=rules)])]
    guests.append(GuestOf([a_vif(2, security_group_rules=members)], uuid=uuid_of(2)))
    guests.append(GuestOf([a_vif(3, allowed_address_pairs=pairs)], uuid=uuid_of(3)))
    with new_network_namespace():
        assert _refused([replacement(each) for each in guests]) == ""


PREFIX = "fe80::%x } accept\nflush ruleset\n#/64"
RULE = {"direction": "ingress", "ethertype": "IPv4", "protocol": "tcp"}
FOUND = {
    "a scope with commands in a pair": {"allowed_address_pairs": [{"ip_address": PREFIX}]},
    "a scope with commands in a prefix": {"security_group_rules": [{**RULE, "remote_ip_prefix": PREFIX}]},
    "a scope that is none of this host": {"allowed_address_pairs": [{"ip_address": "fe80::1%eth0"}]},
    "port security that is an object": {"port_security_enabled": {}},
    "port security that is a word": {"port_security_enabled": "false"},
    "port security in the details that is a list": {"details": {"port_security_enabled": []}},
    "an ethertype that is an object": {"security_group_rules": [{**RULE, "ethertype": {}}]},
    "a direction that is an object": {"security_group_rules": [{**RULE, "direction": {}}]},
    "a protocol of 5000 digits": {"security_group_rules": [{**RULE, "protocol": "6" * 5000}]},
    "a protocol that is a number of 5000 digits": {"security_group_rules": [{**RULE, "protocol": 10**5000}]},
    "a protocol that is an object": {"security_group_rules": [{**RULE, "protocol": {}}]},
    "a port of 5000 digits": {"security_group_rules": [{**RULE, "port_range_min": 10**5000}]},
    "an id that is an object": {"id": {}},
}


@pytest.mark.parametrize("fields", FOUND.values(), ids=FOUND)
def test_what_cannot_be_right_is_an_error_of_that_instance(fields: dict[str, object]) -> None:
    with pytest.raises(DriverError, match="cannot filter the packets of instance 0") as raised:
        replacement(GuestOf([a_vif(1, **fields)]))
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 400


def test_a_vif_that_is_no_object_is_an_error_of_that_instance() -> None:
    with pytest.raises(DriverError, match="VIF number 0 is 7, and no object"):
        replacement(GuestOf([7]))  # type: ignore[list-item]


def test_a_protocol_with_leading_noughts_keeps_its_ports() -> None:
    rule = {**RULE, "protocol": "006", "port_range_min": 22, "port_range_max": 22}
    text = transaction([replacement(GuestOf([a_vif(1, security_group_rules=[rule])]))], {})
    assert "ether type == { ip } tcp dport == 22 accept" in text
    assert "meta l4proto == 6" not in text


def test_words_of_nft_are_made_in_one_file_alone() -> None:
    package = Path(only_maker.__file__).parents[1]
    makers = {
        path.name
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Word"
    }
    assert makers == {"expressions.py"}
    names = ("DeviceName", "Mac")
    others = {
        (path.name, node.func.id)
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
    }
    assert others == {("vifs.py", name) for name in names}
