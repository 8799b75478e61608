"""One entry of ``[pci] device_spec``: what it says, and which devices it lets through."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from bringup.daemon.settings.pci.address import (
    ANY,
    AddressPattern,
    GlobAddress,
    PciAddress,
    parse_address,
    parse_hexadecimal,
)
from bringup.daemon.settings.pci.problems import InvalidDeviceSpec, PciProblems

__all__ = ["DeviceSpec", "InvalidDeviceSpec", "PciDevice", "parse_device_spec"]

OWN_FIELDS = frozenset({"vendor_id", "product_id", "devname", "address"})
LARGEST_ID = 0xFFFF
WHOLE_ENTRY = (
    'a table or a list of tables, as JSON or as TOML, such as {"vendor_id": "8086", "product_id": "1520", '
    '"physical_network": "physnet1"}'
)


def _nowhere(_interface: str) -> None:
    return None


def _none_is(_address: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class PciDevice:
    """A device as the hypervisor lists it; the identifiers are four lower-case hexadecimal digits."""

    address: PciAddress
    vendor_id: str
    product_id: str
    parent_address: PciAddress | None = None
    """For a virtual function its physical function."""


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """Names a set of devices and the tags that they carry."""

    vendor_id: str = ANY
    product_id: str = ANY
    address: AddressPattern | None = field(default_factory=GlobAddress)
    """None where ``devname`` says it."""
    devname: str | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    """Everything else in the entry, such as ``physical_network``; not interpreted."""

    def matches(
        self,
        device: PciDevice,
        *,
        is_physical_function: Callable[[str], bool] = _none_is,
        address_of_interface: Callable[[str], str | None] = _nowhere,
    ) -> bool:
        """Check whether guests may be given the device.

        A spec that names one physical function lets its virtual functions through as well.  ``sysfs`` has the two
        functions that ask the kernel; without them nothing is a physical function and no interface exists.
        """
        if self.vendor_id not in (ANY, device.vendor_id) or self.product_id not in (ANY, device.product_id):
            return False
        pattern = self.address or self._pattern_of_interface(address_of_interface)
        if pattern is None:
            return False
        if pattern.matches(device.address):
            return True
        if device.parent_address is None or not pattern.matches(device.parent_address):
            return False
        single = pattern.single_address()
        return single is not None and is_physical_function(single)

    def _pattern_of_interface(self, address_of_interface: Callable[[str], str | None]) -> GlobAddress | None:
        address = address_of_interface(self.devname) if self.devname else None
        if address is None:
            return None
        found = PciAddress.parse(address)
        return GlobAddress(found.domain, found.bus, found.slot, found.function)


def parse_device_spec(entry: Any) -> tuple[DeviceSpec, ...]:
    """Read one entry: a string of JSON as in ``nova.conf``, or a table or list of tables as TOML has them.

    Raises ``InvalidDeviceSpec`` with every wrong field of the entry.
    """
    problems = PciProblems()
    tables = _tables(entry, problems)
    problems.raise_if_any()
    specs = tuple(_spec(path, table, problems) for path, table in tables)
    problems.raise_if_any()
    return specs


def _tables(entry: Any, problems: PciProblems) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the tables of an entry, each with its path in it."""
    found = entry
    if isinstance(entry, str):
        try:
            found = json.loads(entry)
        except (ValueError, RecursionError):
            problems.add(entry, right=WHOLE_ENTRY)
            return []
    if isinstance(found, Mapping):
        return [("", found)]
    if not isinstance(found, list):
        problems.add(entry, right=WHOLE_ENTRY)
        return []
    for index, table in enumerate(found):
        if not isinstance(table, Mapping):
            with problems.inside(f"[{index}]"):
                problems.add(table, right="a table")
    return [(f"[{index}]", table) for index, table in enumerate(found)]


def _spec(path: str, table: Mapping[str, Any], problems: PciProblems) -> DeviceSpec:
    with problems.inside(path):
        # Nova strips the one and not the other; it shows only in " * ".
        vendor_id = _identifier("vendor_id", table, problems, strip=True)
        product_id = _identifier("product_id", table, problems, strip=False)
        devname, address = table.get("devname"), table.get("address")
        if devname and address:
            with problems.inside(".devname"):
                problems.add(devname, right="either devname or address, not both")
        pattern: AddressPattern | None = None
        if not devname:
            with problems.inside(".address"):
                pattern = parse_address(address, problems)
    return DeviceSpec(
        vendor_id=vendor_id,
        product_id=product_id,
        address=pattern,
        # Nova never checks its type: it is the name of a file in sysfs that is there or not.
        devname=str(devname) if devname else None,
        tags=MappingProxyType({name: value for name, value in table.items() if name not in OWN_FIELDS}),
    )


def _identifier(name: str, table: Mapping[str, Any], problems: PciProblems, *, strip: bool) -> str:
    value = table.get(name, ANY)
    number = None
    if isinstance(value, str):
        number = parse_hexadecimal(value.strip() if strip else value, digits=4, largest=LARGEST_ID)
    if number is None:
        with problems.inside(f".{name}"):
            problems.add(value, right='a string with a hexadecimal number up to "ffff", or "*"')
    return number or ANY
