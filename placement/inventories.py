"""Inventories of a resource provider: read, compared with what the host has, updated.

:func:`differences` and :func:`desired_documents` are pure.  Resource classes that the hypervisor does not report (PCI
devices, vGPUs, an operator's own) stay as they are, and so does a ratio or a reserve that no setting names: operators
set them in Placement itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from bringup.placement.client import PlacementClient
from bringup.placement.response import Response
from bringup.placement.update_with_generation import update_with_generation

CLASSES: Final = ("VCPU", "MEMORY_MB", "DISK_GB")
INITIAL_RATIOS: Final[Mapping[str, float]] = MappingProxyType({"VCPU": 4.0, "MEMORY_MB": 1.0, "DISK_GB": 1.0})
"""Nova's defaults for a new inventory (``initial_*_allocation_ratio``)."""
INITIAL_RESERVED: Final[Mapping[str, int]] = MappingProxyType({"VCPU": 0, "MEMORY_MB": 512, "DISK_GB": 0})
"""Nova's reserves of a new inventory (``reserved_host_*``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Inventory of a resource class."""

    total: int
    reserved: int = 0
    min_unit: int = 1
    max_unit: int
    step_size: int = 1
    allocation_ratio: float = 1.0

    def document(self) -> dict[str, Any]:
        """Return the JSON object of the API."""
        return {
            "total": self.total,
            "reserved": self.reserved,
            "min_unit": self.min_unit,
            "max_unit": self.max_unit,
            "step_size": self.step_size,
            "allocation_ratio": self.allocation_ratio,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredInventory:
    """What the hypervisor has, and what the settings say of it."""

    totals: Mapping[str, int]
    """By resource class: numbers, MiB, GiB."""
    reserved: Mapping[str, int] = field(default_factory=dict)
    ratios: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventories:
    """All inventories of a provider, and the generation that they were read at."""

    generation: int
    documents: Mapping[str, Mapping[str, Any]]
    """As they came: what we do not know goes back as it was."""


def desired_documents(found: Inventories, desired: DesiredInventory) -> dict[str, dict[str, Any]]:
    """Return all inventories as they should be."""
    wanted = {name: dict(document) for name, document in found.documents.items()}
    for name, total in desired.totals.items():
        if total > 0:
            wanted[name] = dict(found.documents.get(name, {})) | _desired(name, total, found, desired).document()
    return wanted


def _desired(name: str, total: int, found: Inventories, desired: DesiredInventory) -> Inventory:
    there = found.documents.get(name)
    right = Inventory(
        total=total, max_unit=total, reserved=INITIAL_RESERVED[name], allocation_ratio=INITIAL_RATIOS[name]
    )
    if there is not None:
        right = replace(
            right,
            reserved=int(there.get("reserved", 0)),
            allocation_ratio=float(there.get("allocation_ratio", 1.0)),
            min_unit=int(there.get("min_unit", 1)),
            step_size=int(there.get("step_size", 1)),
        )
    if name in desired.reserved:
        right = replace(right, reserved=desired.reserved[name])
    if name in desired.ratios:
        right = replace(right, allocation_ratio=desired.ratios[name])
    # A small host cannot reserve more than it has.
    return replace(right, reserved=min(right.reserved, total))


def differences(found: Inventories, desired: DesiredInventory) -> list[str]:
    """Return the differences, a line each."""
    lines = []
    for name, wanted in desired_documents(found, desired).items():
        there = found.documents.get(name)
        if there is None:
            lines.append(f"{name}: none, should be total={wanted['total']}")
            continue
        wrong = [
            f"{key}={there.get(key)}, should be {value}" for key, value in wanted.items() if there.get(key) != value
        ]
        lines.extend(f"{name}: {text}" for text in wrong)
    return lines


async def read_inventories(client: PlacementClient, provider: str) -> Inventories:
    """Read the inventories of the provider with this UUID.

    :raises PlacementError: they could not be read.
    """
    return _read(await client.request("GET", f"/resource_providers/{provider}/inventories"))


def _read(answer: Response) -> Inventories:
    match answer.json():
        case {"inventories": dict(documents), "resource_provider_generation": int(generation)} if all(
            isinstance(document, dict) for document in documents.values()
        ):
            return Inventories(generation=generation, documents=documents)
        case _:
            raise answer.not_understood("described inventories without a generation")


async def update_inventories(
    client: PlacementClient, provider: str, desired: DesiredInventory, *, wait_s: float
) -> tuple[str, ...]:
    """Update the inventories, retried on a generation conflict; return what was different.

    :raises PlacementError: they could not be.
    """
    changed: list[str] = []

    async def once() -> None:
        found = await read_inventories(client, provider)
        lines = differences(found, desired)
        if lines:
            body = {"resource_provider_generation": found.generation, "inventories": desired_documents(found, desired)}
            changed[:] = lines
            # Parsed too: a page of a proxy may also be a 200.
            _read(await client.request("PUT", f"/resource_providers/{provider}/inventories", json=body))

    await update_with_generation(f"update the inventories of resource provider {provider}", once, wait_s=wait_s)
    return tuple(changed)
