"""``[inventory]``: values for Placement beside those that the hypervisor reports."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from bringup.drivers.kinds import Amount, Ratio

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryRules:
    """The section of the settings; None: the value in Placement stays as it is."""

    update: bool = False
    reserved_host_cpus: Amount | None = None
    reserved_host_memory_mb: Amount | None = None
    reserved_host_disk_mb: Amount | None = None
    cpu_allocation_ratio: Ratio | None = None
    ram_allocation_ratio: Ratio | None = None
    disk_allocation_ratio: Ratio | None = None

    @property
    def reserved(self) -> dict[str, int]:
        """What guests do not get, by resource class, in Placement's units: numbers, MiB, GiB."""
        disk_mb = self.reserved_host_disk_mb
        disk_gb = None if disk_mb is None else math.ceil(disk_mb / 1024)
        return _given({"VCPU": self.reserved_host_cpus, "MEMORY_MB": self.reserved_host_memory_mb, "DISK_GB": disk_gb})

    @property
    def ratios(self) -> dict[str, float]:
        """Allocation ratios by resource class."""
        ratios = (self.cpu_allocation_ratio, self.ram_allocation_ratio, self.disk_allocation_ratio)
        return _given(dict(zip(("VCPU", "MEMORY_MB", "DISK_GB"), ratios, strict=True)))


def _given(found: Mapping[str, T | None]) -> dict[str, T]:
    return {name: value for name, value in found.items() if value is not None}
