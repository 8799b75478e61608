"""Every recorded PCI device spec: accepted or refused as Nova does, and the same devices let through."""

from typing import Any

import pytest

from bringup.daemon.settings.pci import InvalidDeviceSpec, PciAddress, PciDevice, parse_device_spec
from support.oracle import rows, why_missing

FILE = "pci_whitelist.jsonl"
NO_SUCH_INTERFACE = "PciConfigInvalidWhitelist"
MISSING = why_missing(FILE)
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

ROWS = [] if MISSING else rows(FILE)
DEVICES: list[dict[str, str]] = ROWS[0]["devices"] if ROWS else []
ENTRIES = ROWS[1:]


def of(*, ok: bool, nova_exception: bool = True) -> list[Any]:
    """Return the rows with this result, each under the name of its entry."""
    return [
        pytest.param(row, id=row["entry"] or "(empty)")
        for row in ENTRIES
        if row["ok"] is ok and row.get("nova_exception", True) is nova_exception
    ]


def device(facts: dict[str, str]) -> PciDevice:
    parent = facts.get("parent_addr")
    return PciDevice(
        address=PciAddress.parse(facts["address"]),
        vendor_id=facts["vendor_id"],
        product_id=facts["product_id"],
        parent_address=PciAddress.parse(parent) if parent else None,
    )


@pytest.mark.parametrize("row", of(ok=True))
def test_an_entry_that_nova_accepts_lets_the_same_devices_through(row: dict[str, Any]) -> None:
    specs = parse_device_spec(row["entry"])

    assert len(specs) == row["specs"]
    # Nova raises at match time where no interface has the devname; here it matches nothing, and `check` says so.
    matches = [False if match == NO_SUCH_INTERFACE else match for match in row["matches"]]
    assert [any(spec.matches(device(facts)) for spec in specs) for facts in DEVICES] == matches


@pytest.mark.parametrize("row", of(ok=False))
def test_an_entry_that_nova_refuses_is_refused_with_a_reason(row: dict[str, Any]) -> None:
    with pytest.raises(InvalidDeviceSpec, match=r" is .*: give "):
        parse_device_spec(row["entry"])


@pytest.mark.parametrize("row", of(ok=False, nova_exception=False))
def test_an_entry_that_makes_nova_fail_by_accident_is_refused_with_a_reason(row: dict[str, Any]) -> None:
    with pytest.raises(InvalidDeviceSpec, match=r" is .*: give "):
        parse_device_spec(row["entry"])


def test_every_row_is_replayed() -> None:
    replayed = [*of(ok=True), *of(ok=False), *of(ok=False, nova_exception=False)]
    assert len(replayed) == len(ENTRIES) > 0
