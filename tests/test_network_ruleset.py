"""Transactions of nft as pure text, held to a model of the kernel: nothing collides, nothing is left."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.drivers.base import DriverError
from bringup.drivers.identifiers import DEVICE_NAME
from bringup.drivers.network.rules.addresses import allowed_addresses, link_local
from bringup.drivers.network.rules.expressions import chain, exchange_set
from bringup.drivers.network.rules.ruleset import (
    FROM,
    TO,
    Replacement,
    base,
    devices_after,
    instance_of,
    is_filtered,
    replacement,
    transaction,
)
from bringup.drivers.network.rules.vifs import DeviceName, VifProblem, read_vif
from bringup.drivers.network.rules.vifs import mac_of as checked_mac
from support.network import GuestOf, a_vif, an_ovs_vif, device_of, hybrid, ip_of, mac_of
from support.records import uuid_of

names = st.from_regex(DEVICE_NAME, fullmatch=True).map(DeviceName)
BASE_CHAINS = {"from-guests", "to-guests"}


@dataclass
class Table:
    """What the kernel has of our table; a command that it would refuse is an assertion."""

    chains: dict[str, list[str]] = field(default_factory=dict)
    elements: dict[str, dict[str, str]] = field(default_factory=dict)
    sets: set[str] = field(default_factory=set)

    def run(self, text: str) -> None:
        for line in text.splitlines():
            verb, kind, *rest = line.split(" ", 4)
            if kind != "table":
                getattr(self, f"_{verb}_{kind}")(rest[2].split()[0], " ".join(rest[2].split()[1:]))

    def _add_map(self, name: str, _rest: str) -> None:
        self.elements.setdefault(name, {})

    def _add_set(self, name: str, _rest: str) -> None:
        self.sets.add(name)

    def _add_chain(self, name: str, _rest: str) -> None:
        self.chains.setdefault(name, [])

    def _flush_chain(self, name: str, _rest: str) -> None:
        self.chains[name].clear()

    def _add_rule(self, name: str, rest: str) -> None:
        for used in re.findall(r"@((?:udp[46]\.|from-|to-)\S+)", rest):
            assert used in self.sets or used in self.elements
        self.chains[name].append(rest)

    def _add_element(self, name: str, rest: str) -> None:
        device, target = re.fullmatch(r'\{ "(\S+)" : jump (\S+) \}', rest).groups()  # type: ignore[union-attr]
        assert target in self.chains
        assert self.elements[name].setdefault(device, target) == target, "the kernel keeps one verdict a device"

    def _delete_element(self, name: str, rest: str) -> None:
        del self.elements[name][rest.split('"')[1]]

    def _delete_chain(self, name: str, _rest: str) -> None:
        assert not self.chains.pop(name)
        assert all(name not in elements.values() for elements in self.elements.values()), f"{name} is still used"

    def _delete_set(self, name: str, _rest: str) -> None:
        self.sets.remove(name)
        assert not any(f"@{name}" in rule for rules in self.chains.values() for rule in rules), f"{name} is still used"


RULES = st.sampled_from([None, [], [{"direction": "ingress", "protocol": "udp"}, {"direction": "egress"}]])


@st.composite
def guests(draw: st.DrawFn) -> GuestOf:
    """Draw an instance with some of few ports, so that ports go from one to another."""
    vifs: list[dict[str, Any]] = []
    for number in draw(st.lists(st.integers(1, 4), unique=True, max_size=3)):
        rules, secure = draw(RULES), draw(st.booleans())
        vifs.append(a_vif(number, security_group_rules=rules, port_security_enabled=secure))
    return GuestOf(vifs, uuid=uuid_of(draw(st.integers(1, 3))))


batches = st.lists(st.lists(guests().map(replacement), max_size=3, unique_by=lambda one: one.instance), max_size=5)


def after(history: list[list[Replacement]]) -> tuple[Table, dict[str, frozenset[DeviceName]]]:
    table, had = Table(), dict[str, frozenset[DeviceName]]()
    for batch in history:
        table.run(transaction(batch, had))
        had = devices_after(batch, had)
    return table, had


@given(batches)
def test_every_device_has_the_rules_of_the_instance_that_had_it_last(history: list[list[Replacement]]) -> None:
    table, had = after([[], *history])
    owners = {device: instance for instance, devices in had.items() for device in devices}
    assert {name: set(elements) for name, elements in table.elements.items()}["from-guests"] == set(owners)
    assert {name for name in table.chains if name.startswith("from.")} == {chain(FROM, device) for device in owners}
    for device, instance in owners.items():
        assert table.chains[chain(FROM, device)][0].endswith(f'comment "{instance}"')


@given(batches)
def test_nothing_is_left_once_all_are_forgotten(history: list[list[Replacement]]) -> None:
    table, had = after([[], *history])
    table.run(transaction([Replacement(instance=instance_of(instance)) for instance in had], had))
    bare, _ = after([[]])
    assert table == bare


@given(batches)
def test_a_transaction_again_changes_nothing(history: list[list[Replacement]]) -> None:
    table, had = after([[], *history])
    again, _ = after([[], *history])
    if history:
        again.run(transaction(history[-1], had))
    assert again == table


@given(batches)
def test_a_transaction_holds_whatever_somebody_has_flushed(history: list[list[Replacement]]) -> None:
    _, had = after(history)
    for batch in history:
        flushed = Table()
        flushed.run(transaction(batch, had))


@given(st.lists(names, unique=True, min_size=2, max_size=5))
def test_no_two_devices_share_a_chain_or_a_set(devices: list[DeviceName]) -> None:
    made = [
        name
        for device in devices
        for name in (chain(FROM, device), chain(TO, device), exchange_set("ip", device), exchange_set("ip6", device))
    ]
    assert len(set(made)) == len(made)
    assert not set(made) & BASE_CHAINS
    assert all(re.fullmatch(r"[a-z][A-Za-z0-9_.-]*", name) for name in made), "words that nft reads without quotes"


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ['"', "}", "; flush ruleset", "\nflush ruleset", "# ", "10.0.0.1/0", "tap1\n"]
)
KEYS = ("id", "devname", "address", "type", "ip", "pair", "mac", "protocol", "prefix")


@given(st.dictionaries(st.sampled_from(KEYS), TEXTS))
def test_no_word_of_a_record_becomes_a_command(words: Mapping[str, str]) -> None:
    vif = a_vif(1, **{key: words[key] for key in ("id", "devname", "address", "type") if key in words})
    vif["network"]["subnets"][0]["ips"][0]["address"] = words.get("ip", ip_of(1))
    vif["allowed_address_pairs"] = [
        {"ip_address": words.get("pair", "10.1.0.0/16"), "mac_address": words.get("mac", mac_of(7))}
    ]
    rule = {"direction": "ingress", "protocol": words.get("protocol", "tcp"), "remote_ip_prefix": words.get("prefix")}
    vif["security_group_rules"] = [rule]
    try:
        text = transaction([replacement(GuestOf([vif]))], {})
    except DriverError:
        return
    for line in text.splitlines():
        assert re.fullmatch(
            r"(add|flush|delete) (table|map|chain|set|element|rule) bridge bringup[A-Za-z0-9 \"{}:;,.@=!&|()/_-]*", line
        )
    assert "flush ruleset" not in text


WRONG_RULES = {
    "group": ({"direction": "ingress", "remote_group_id": "a"}, "[0].remote_group_id: the members of a group"),
    "direction": ({"direction": "up"}, '[0].direction is neither "ingress" nor "egress"'),
    "family": ({"direction": "ingress", "ethertype": "IPX"}, '[0].ethertype is neither "IPv4" nor "IPv6"'),
    "protocol": (
        {"direction": "ingress", "protocol": "tpc"},
        "[0].protocol 'tpc' is not a protocol that Neutron knows",
    ),
    "number": ({"direction": "ingress", "protocol": 256}, "[0].protocol 256 is not a protocol that Neutron knows"),
    "port": (
        {"direction": "ingress", "protocol": "tcp", "port_range_min": 65536},
        "[0].port_range_min 65536 is no number from 0 to 65535",
    ),
    "range": (
        {"direction": "ingress", "protocol": "tcp", "port_range_min": 9, "port_range_max": 8},
        "[0].port_range_min is more than its port_range_max",
    ),
    "prefix": ({"direction": "ingress", "remote_ip_prefix": "ten"}, "[0].remote_ip_prefix 'ten' is no IP address"),
    "other family": (
        {"direction": "ingress", "ethertype": "IPv6", "remote_ip_prefix": "10.0.0.0/8"},
        "[0].remote_ip_prefix '10.0.0.0/8' is not of its ethertype",
    ),
}


@pytest.mark.parametrize(("rule", "sentence"), WRONG_RULES.values(), ids=WRONG_RULES)
def test_a_security_group_rule_that_cannot_be_put_into_words_is_an_error(rule: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DriverError) as raised:
        replacement(GuestOf([a_vif(1, security_group_rules=[rule])]))
    assert f"VIF {a_vif(1)['id']} (device {device_of(1)}): security_group_rules{sentence}" in str(raised.value)


@pytest.mark.parametrize(
    ("plain", "ours"),
    [
        (a_vif(1), True),
        (an_ovs_vif(1, details=hybrid()), True),
        (an_ovs_vif(1), False),
        (a_vif(1, type="tap"), False),
        (a_vif(1, type="binding_failed"), False),
        (a_vif(1, details={"port_filter": True}), False),
        (a_vif(1, details={"port_filter": False}), True),
        (a_vif(1, port_security_enabled=False), False),
        (a_vif(1, port_security_enabled=True), True),
        (an_ovs_vif(1, details=hybrid(port_filter=True)), False),
    ],
)
def test_which_nics_are_ours_to_filter(plain: dict[str, Any], *, ours: bool) -> None:
    assert is_filtered(read_vif(plain)) is ours


def test_addresses_that_overlap_become_one() -> None:
    pairs = [{"ip_address": ip} for ip in ("10.0.0.0/25", "10.0.0.128/25", "10.0.0.7", "2001:db8::/64")]
    found = allowed_addresses(read_vif(a_vif(1, allowed_address_pairs=pairs)))
    assert [str(network) for _, network in found.ipv4] == ["10.0.0.0/24"]
    assert [str(network) for _, network in found.ipv6] == ["2001:db8::/64", f"{link_local(mac_of(1))}"]


def test_the_link_local_address_of_a_mac_is_that_of_rfc_4291() -> None:
    assert str(link_local(checked_mac("34:56:78:9a:bc:de", "MAC"))) == "fe80::3656:78ff:fe9a:bcde/128"


@pytest.mark.parametrize("value", ["10.0.0.300", "", None, 7, "10.0.0.1 accept"])
def test_an_address_that_is_none_is_a_problem(value: object) -> None:
    vif = a_vif(1)
    vif["network"]["subnets"][0]["ips"][0]["address"] = value
    with pytest.raises(VifProblem, match="is no IP address or network"):
        allowed_addresses(read_vif(vif))


def test_the_base_is_made_again_without_a_second_rule() -> None:
    table = Table()
    for _ in range(2):
        table.run("\n".join(base()))
    assert {name: len(rules) for name, rules in table.chains.items()} == dict.fromkeys(BASE_CHAINS, 1)
