import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.daemon.settings.pci import DeviceSpec, InvalidDeviceSpec, PciAddress, PciDevice, parse_device_spec
from bringup.daemon.settings.pci.sysfs import address_of_interface, is_physical_function

PHYSICAL = "0000:0a:00.0"
VIRTUAL = PciDevice(PciAddress.parse("0000:0a:02.1"), "8086", "10ed", parent_address=PciAddress.parse(PHYSICAL))
CARD = PciDevice(PciAddress.parse(PHYSICAL), "8086", "10fb")


def one(entry: Any) -> DeviceSpec:
    (spec,) = parse_device_spec(entry)
    return spec


def paths(entry: Any) -> list[str]:
    with pytest.raises(InvalidDeviceSpec) as caught:
        parse_device_spec(entry)
    return [problem.path for problem in caught.value.problems]


def address(text: str) -> PciDevice:
    return PciDevice(PciAddress.parse(text), "8086", "10fb")


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        pytest.param(":0a:00.", "0001:0a:00.3", "0001:0a:01.3", id="bus and slot"),
        pytest.param("00.1", "ffff:0a:00.1", "ffff:0a:00.2", id="slot and function"),
        pytest.param("00.", "ffff:0a:00.7", "ffff:0a:01.7", id="slot"),
        pytest.param("*:0a:00.*", "0001:0a:00.3", "0001:0b:00.3", id="wildcards"),
        pytest.param("0:a:0.0", "0000:0a:00.0", "0000:0a:00.1", id="zeros left off"),
        pytest.param("0000:0A:1F.0", "0000:0a:1f.0", "0000:0a:1e.0", id="upper case"),
        pytest.param(" : : 02 .1", "0000:0a:02.1", "0000:0a:03.1", id="blank parts"),
        pytest.param({"slot": "0[12]"}, "0000:0a:02.1", "0000:0a:03.1", id="expression"),
        pytest.param({"bus": "0"}, "0000:0a:02.1", "0000:1a:02.1", id="expression that matches the start only"),
        pytest.param({"domain": "0000", "function": "1"}, "0000:0a:02.1", "0000:0a:02.2", id="two expressions"),
    ],
)
def test_an_address_names_devices_as_nova_reads_it(pattern: Any, inside: str, outside: str) -> None:
    spec = one({"address": pattern})
    assert (spec.matches(address(inside)), spec.matches(address(outside))) == (True, False)


@pytest.mark.parametrize("nothing", ["", None, {}, [], 0, False], ids=repr)
def test_an_empty_address_is_every_address(nothing: Any) -> None:
    assert one({"address": nothing}).matches(VIRTUAL)


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        pytest.param("", [""], id="no text"),
        pytest.param("{'vendor_id': '8086'}", [""], id="no JSON"),
        pytest.param("[" * 100_000, [""], id="nested too deep"),
        pytest.param(5, [""], id="number"),
        pytest.param([{}, 1, "a"], ["[1]", "[2]"], id="members that are no tables"),
        pytest.param([[{}]], ["[0]"], id="a list in a list"),
        pytest.param({"vendor_id": 8086}, [".vendor_id"], id="vendor_id that is a number"),
        pytest.param({"product_id": None}, [".product_id"], id="product_id that is null"),
        pytest.param({"product_id": " * "}, [".product_id"], id="product_id with spaces around the wildcard"),
        pytest.param({"vendor_id": "10000"}, [".vendor_id"], id="vendor_id too large"),
        pytest.param({"address": "00. "}, [".address.function"], id="blank function"),
        pytest.param({"address": "0000:100:20.8"}, [".address.bus", ".address.slot", ".address.function"], id="parts"),
        pytest.param({"address": "0:0:0:0.0"}, [".address"], id="too many parts"),
        pytest.param({"address": [1]}, [".address"], id="address that is a list"),
        pytest.param({"address": {"bus": "["}}, [".address.bus"], id="no expression"),
        pytest.param({"address": {"slot": None}}, [".address.slot"], id="expression that is null"),
        pytest.param({"address": {"slot": "a{99999999999999999999}"}}, [".address.slot"], id="expression too large"),
        pytest.param({"devname": "eth0", "address": "*"}, [".devname"], id="devname and address"),
        pytest.param(
            [{}, {"vendor_id": "x", "address": {"bus": 5}}], ["[1].vendor_id", "[1].address.bus"], id="in a list"
        ),
    ],
)
def test_every_wrong_field_is_named(entry: Any, where: list[str]) -> None:
    assert paths(entry) == where


def test_the_message_names_the_field_its_value_and_what_would_be_right() -> None:
    with pytest.raises(InvalidDeviceSpec) as caught:
        parse_device_spec('{"address": {"bus": 5}}')
    assert str(caught.value) == "address.bus is 5: give a string with a regular expression"


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(InvalidDeviceSpec) as caught:
        parse_device_spec({"vendor_id": "z" * 10_000})
    assert len(str(caught.value)) < 300


def test_an_expression_that_python_warns_of_is_valid() -> None:
    assert one({"address": {"bus": "[[a]0a"}}).address is not None


def test_what_is_not_interpreted_becomes_a_tag() -> None:
    spec = one('{"vendor_id": "8086", "physical_network": "physnet1", "trusted": true}')
    assert dict(spec.tags) == {"physical_network": "physnet1", "trusted": True}


def test_a_physical_function_lets_its_virtual_functions_through() -> None:
    spec = one({"address": PHYSICAL})
    assert spec.matches(VIRTUAL, is_physical_function=lambda found: found == PHYSICAL)
    assert not spec.matches(VIRTUAL, is_physical_function=lambda _found: False)


def test_a_set_of_addresses_is_no_physical_function() -> None:
    assert not one({"address": "0000:0a:00.*"}).matches(VIRTUAL, is_physical_function=lambda _found: True)


def test_expressions_that_are_plain_digits_name_one_physical_function() -> None:
    plain = {"domain": "0000", "bus": "0a", "slot": "00", "function": "0"}
    assert one({"address": plain}).matches(VIRTUAL, is_physical_function=lambda found: found == PHYSICAL)


def test_a_virtual_function_must_have_the_identifiers_itself() -> None:
    spec = one({"address": PHYSICAL, "product_id": "10fb"})
    assert not spec.matches(VIRTUAL, is_physical_function=lambda _found: True)


def test_an_interface_names_the_device_behind_it() -> None:
    spec = one({"devname": "eth0"})
    assert spec.matches(CARD, address_of_interface={"eth0": PHYSICAL}.get)
    assert not spec.matches(VIRTUAL, address_of_interface={"eth0": PHYSICAL}.get)


def test_an_interface_that_does_not_exist_names_no_device() -> None:
    """Nova raises here, and the service does not start."""
    for name in ("nosuch0", "lo", "..", "a/b", ""):
        spec = one({"devname": name or "x" * 300})
        assert not spec.matches(CARD)
        assert not spec.matches(CARD, address_of_interface=address_of_interface)


@pytest.mark.parametrize("text", ["", "0000:0a:00", "0a:00.1", "0000:0a:00.x", "a:b:c:d.1"])
def test_a_device_address_is_whole_or_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no PCI address|invalid literal"):
        PciAddress.parse(text)


def test_a_device_in_a_domain_of_five_digits_is_named_by_a_wildcard() -> None:
    device = address("10000:e1:00.0")
    assert (str(device.address), one({"address": "*"}).matches(device)) == ("10000:e1:00.0", True)


@pytest.mark.parametrize(("text", "is_one"), [("8\n", True), ("0\n", False), ("x", False)])
def test_a_device_with_virtual_functions_is_a_physical_function(tmp_path: Path, text: str, is_one: bool) -> None:  # noqa: FBT001 - a column of the table
    folder = tmp_path / "bus/pci/devices" / PHYSICAL
    folder.mkdir(parents=True)
    (folder / "sriov_totalvfs").write_text(text)
    assert is_physical_function(PHYSICAL, sysfs=tmp_path) is is_one


def test_a_device_that_is_not_there_is_no_physical_function(tmp_path: Path) -> None:
    assert not is_physical_function(PHYSICAL, sysfs=tmp_path)


@pytest.mark.parametrize(
    ("name", "target", "expected"),
    [
        pytest.param("eth0", f"../../../{PHYSICAL}", PHYSICAL, id="PCI device"),
        pytest.param("eth0", "../../../virtio0", None, id="no PCI device"),
        pytest.param("eth1", f"../../../{PHYSICAL}", None, id="another interface"),
        pytest.param("..", f"../../../{PHYSICAL}", None, id="another folder"),
        pytest.param("a\0b", f"../../../{PHYSICAL}", None, id="no file name"),
    ],
)
def test_an_interface_is_looked_up_in_sysfs(tmp_path: Path, name: str, target: str, expected: str | None) -> None:
    folder = tmp_path / "class/net/eth0"
    folder.mkdir(parents=True)
    (folder / "device").symlink_to(target)
    assert address_of_interface(name, sysfs=tmp_path) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PART = st.text(alphabet="0123456789abcdefgx*-_ .:[]()|?+{}\\", max_size=10)
ADDRESS = PART | st.dictionaries(st.sampled_from(["domain", "bus", "slot", "function"]), PART | JSON) | JSON
TABLE = st.fixed_dictionaries(
    {},
    optional={"vendor_id": PART | JSON, "product_id": PART | JSON, "address": ADDRESS, "devname": JSON, "tag": JSON},
)


def answers(entry: Any) -> bool:
    try:
        specs = parse_device_spec(entry)
    except InvalidDeviceSpec as error:
        return bool(error.problems) and str(error).isprintable()
    return all(isinstance(spec.matches(VIRTUAL, is_physical_function=lambda _found: True), bool) for spec in specs)


@given(TABLE | st.lists(TABLE, max_size=3) | JSON)
def test_a_table_gives_specs_or_one_error(entry: Any) -> None:
    assert answers(entry)
    assert answers(json.dumps(entry))


@given(st.text())
def test_a_string_gives_specs_or_one_error(entry: str) -> None:
    assert answers(entry)


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFF), st.integers(0, 0x1F), st.integers(0, 7))
def test_a_whole_address_names_exactly_its_device(domain: int, bus: int, slot: int, function: int) -> None:
    text = f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"
    other = f"{domain:04x}:{bus:02x}:{slot:02x}.{(function + 1) % 8:x}"
    assert (one({"address": text}).matches(address(text)), one({"address": text}).matches(address(other))) == (
        True,
        False,
    )
