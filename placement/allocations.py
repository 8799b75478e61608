"""Allocations of a resource provider: read, and removed from a consumer."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from bringup.placement.client import PlacementClient
from bringup.placement.update_with_generation import update_with_generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """A consumer: its allocations by provider, and the generation that they were read at."""

    allocations: Mapping[str, Mapping[str, Any]]
    """By the UUID of the provider: ``{"resources": {"VCPU": 1}}``, and other keys that are sent back unchanged."""
    about: Mapping[str, Any]
    """Project, user, generation and all other fields of the consumer."""

    def without(self, provider: str) -> dict[str, Any]:
        """Return the request body that removes the allocations of this provider and keeps the others."""
        rest = {
            uuid: {"resources": dict(document["resources"])}
            for uuid, document in self.allocations.items()
            if uuid != provider
        }
        return {**self.about, "allocations": rest}


async def consumers_of(client: PlacementClient, provider: str) -> frozenset[str]:
    """Return the UUIDs of all consumers of a provider: instances, and their migrations.

    :raises PlacementError: the allocations could not be read.
    """
    answer = await client.request("GET", f"/resource_providers/{provider}/allocations")
    match answer.json():
        case {"allocations": dict(allocations)}:
            return frozenset(str(uuid) for uuid in allocations)
        case _:
            raise answer.not_understood("described the allocations of a provider without allocations")


async def read_consumer(client: PlacementClient, uuid: str) -> Consumer:
    """Read the allocations of a consumer; needs microversion 1.28.

    :raises PlacementError: they could not be read.
    """
    answer = await client.request("GET", f"/allocations/{uuid}")
    match answer.json():
        case {"allocations": dict(allocations), **rest} if all(
            isinstance(document, dict) and isinstance(document.get("resources"), dict)
            for document in allocations.values()
        ):
            return Consumer(allocations=allocations, about={str(key): value for key, value in rest.items()})
        case _:
            raise answer.not_understood("described a consumer without its allocations")


async def remove_allocation(client: PlacementClient, consumer: str, provider: str, *, wait_s: float) -> bool:
    """Remove the allocation of a consumer at one provider; return whether there was one.

    :raises PlacementError: it is still there, or its state is unknown.
    """
    is_removed = False

    async def once() -> None:
        nonlocal is_removed
        found = await read_consumer(client, consumer)
        if provider in found.allocations:
            is_removed = True
            answer = await client.request("PUT", f"/allocations/{consumer}", json=found.without(provider))
            if answer.status != HTTPStatus.NO_CONTENT:
                raise answer.not_understood(f"answered {answer.status} to a write that has no answer")

    await update_with_generation(
        f"remove the allocation of {consumer} at resource provider {provider}", once, wait_s=wait_s
    )
    return is_removed
