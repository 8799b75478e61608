"""What a host has to give, as Placement knows it and as it is.

Deciding is pure: :func:`differences` and :func:`decided`.  Resource classes that the hypervisor does not tell of (PCI
devices, vGPUs, an operator's own) are left as they are, and so is a ratio or a reserve that no setting names: operators
set them in Placement itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from bringup.placement.answers import Answer
from bringup.placement.client import PlacementClient
from bringup.placement.update_with_generation import revise

CLASSES: Final = ("VCPU", "MEMORY_MB", "DISK_GB")
INITIAL_RATIOS: Final[Mapping[str, float]] = MappingProxyType({"VCPU": 4.0, "MEMORY_MB": 1.0, "DISK_GB": 1.0})
"""What Nova gives a new inventory (``initial_*_allocation_ratio``)."""
INITIAL_RESERVED: Final[Mapping[str, int]] = MappingProxyType({"VCPU": 0, "MEMORY_MB": 512, "DISK_GB": 0})
"""What Nova keeps for the host of a new inventory (``reserved_host_*``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """How much there is of one resource class, and how it may be given away."""

    total: int
    reserved: int = 0
    min_unit: int = 1
    max_unit: int
    step_size: int = 1
    allocation_ratio: float = 1.0

    def document(self) -> dict[str, Any]:
        """Give it as the API wants it."""
        return {
            "total": self.total,
            "reserved": self.reserved,
            "min_unit": self.min_unit,
            "max_unit": self.max_unit,
            "step_size": self.step_size,
            "allocation_ratio": self.allocation_ratio,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Wished:
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


def decided(found: Inventories, wished: Wished) -> dict[str, dict[str, Any]]:
    """Give what all inventories should be."""
    wanted = {name: dict(document) for name, document in found.documents.items()}
    for name, total in wished.totals.items():
        if total > 0:
            wanted[name] = dict(found.documents.get(name, {})) | _right(name, total, found, wished).document()
    return wanted


def _right(name: str, total: int, found: Inventories, wished: Wished) -> Inventory:
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
    if name in wished.reserved:
        right = replace(right, reserved=wished.reserved[name])
    if name in wished.ratios:
        right = replace(right, allocation_ratio=wished.ratios[name])
    # A small host cannot keep more for itself than it has.
    return replace(right, reserved=min(right.reserved, total))


def differences(found: Inventories, wished: Wished) -> list[str]:
    """Say what is not as it should be, a line each."""
    lines = []
    for name, wanted in decided(found, wished).items():
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


def _read(answer: Answer) -> Inventories:
    match answer.json():
        case {"inventories": dict(documents), "resource_provider_generation": int(generation)} if all(
            isinstance(document, dict) for document in documents.values()
        ):
            return Inventories(generation=generation, documents=documents)
        case _:
            raise answer.not_understood("described inventories without a generation")


async def put_inventories_right(
    client: PlacementClient, provider: str, wished: Wished, *, wait_s: float
) -> tuple[str, ...]:
    """Make them what they should be, on whatever generation; give what was different.

    :raises PlacementError: they could not be.
    """
    changed: list[str] = []

    async def once() -> None:
        found = await read_inventories(client, provider)
        lines = differences(found, wished)
        if lines:
            body = {"resource_provider_generation": found.generation, "inventories": decided(found, wished)}
            changed[:] = lines
            # Read as well: a page of a proxy may say 200, too.
            _read(await client.request("PUT", f"/resource_providers/{provider}/inventories", json=body))

    await revise(f"put the inventories of resource provider {provider} right", once, wait_s=wait_s)
    return tuple(changed)
