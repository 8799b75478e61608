"""A host in the real Placement: provider, inventory, and instances that have something of it."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bringup.placement.client import PlacementClient
from bringup.placement.errors import NotFound
from bringup.placement.gate import pass_gate
from bringup.placement.microversions import NEEDED
from support.placement import fresh_name

SMALL = {"VCPU": 1, "MEMORY_MB": 64}
ROOM = {
    name: {"total": total, "reserved": 0, "min_unit": 1, "max_unit": total, "step_size": 1, "allocation_ratio": 1.0}
    for name, total in {"VCPU": 64, "MEMORY_MB": 65536, "DISK_GB": 500}.items()
}


@dataclass
class Provider:
    """A resource provider of one's own, and a client of an administrator."""

    client: PlacementClient
    uuid: str
    name: str
    consumers: list[str] = field(default_factory=list)

    async def inventories(self) -> dict[str, Any]:
        answer = await self.client.request("GET", f"/resource_providers/{self.uuid}/inventories")
        found: dict[str, Any] = answer.json()["inventories"]
        return found

    async def generation(self) -> int:
        answer = await self.client.request("GET", f"/resource_providers/{self.uuid}")
        found: int = answer.json()["generation"]
        return found

    async def set_inventories(self, inventories: Mapping[str, Any]) -> None:
        """Set these inventories."""
        body = {"resource_provider_generation": await self.generation(), "inventories": dict(inventories)}
        await self.client.request("PUT", f"/resource_providers/{self.uuid}/inventories", json=body)

    async def traits(self) -> set[str]:
        answer = await self.client.request("GET", f"/resource_providers/{self.uuid}/traits")
        return set(answer.json()["traits"])


async def a_provider(client: PlacementClient, *, with_room: bool = True) -> Provider:
    """Make a provider."""
    speaking = client.at(NEEDED)
    gate = await pass_gate(speaking, provider=fresh_name(), wait_s=30, create=True)
    provider = Provider(speaking, gate.provider.uuid, gate.provider.name)
    if with_room:
        await provider.set_inventories(ROOM)
    return provider


async def allocate(client: PlacementClient, consumer: str, *providers: Provider) -> None:
    """Allocate something of each of these to a consumer."""
    body = {
        "allocations": {provider.uuid: {"resources": SMALL} for provider in providers},
        "project_id": str(uuid.UUID(int=7)),
        "user_id": str(uuid.UUID(int=8)),
        "consumer_generation": None,
    }
    await client.request("PUT", f"/allocations/{consumer}", json=body)


async def holders(client: PlacementClient, consumer: str) -> set[str]:
    """Return the providers of which a consumer has something."""
    try:
        answer = await client.request("GET", f"/allocations/{consumer}")
    except NotFound:
        return set()
    return set(answer.json()["allocations"])
