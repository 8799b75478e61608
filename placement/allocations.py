"""What is given to whom: the allocations of a provider, and taking one back."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from bringup.placement.client import PlacementClient
from bringup.placement.update_with_generation import revise


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """Who has something, of whom, and the generation that it was read at."""

    allocations: Mapping[str, Mapping[str, Any]]
    """By the UUID of the provider: ``{"resources": {"VCPU": 1}}``, and more in it that goes back as it came."""
    about: Mapping[str, Any]
    """Project, user, generation and whatever else Placement says of a consumer."""

    def without(self, provider: str) -> dict[str, Any]:
        """Give the request body that takes what it has of this provider; the rest stays."""
        rest = {
            uuid: {"resources": dict(document["resources"])}
            for uuid, document in self.allocations.items()
            if uuid != provider
        }
        return {**self.about, "allocations": rest}


async def consumers_of(client: PlacementClient, provider: str) -> frozenset[str]:
    """Give the UUIDs of all who have something of a provider: instances, and migrations of theirs.

    :raises PlacementError: it could not be read.
    """
    answer = await client.request("GET", f"/resource_providers/{provider}/allocations")
    match answer.json():
        case {"allocations": dict(allocations)}:
            return frozenset(str(uuid) for uuid in allocations)
        case _:
            raise answer.not_understood("described the allocations of a provider without allocations")


async def read_consumer(client: PlacementClient, uuid: str) -> Consumer:
    """Read what a consumer has; microversion 1.28 or later.

    :raises PlacementError: it could not be read.
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


async def take_back(client: PlacementClient, consumer: str, provider: str, *, wait_s: float) -> bool:
    """Take from a consumer what it has of a provider, and nothing else; tell whether it had something.

    :raises PlacementError: it still has it, or nobody knows.
    """
    taken = False

    async def once() -> None:
        nonlocal taken
        found = await read_consumer(client, consumer)
        if provider in found.allocations:
            taken = True
            answer = await client.request("PUT", f"/allocations/{consumer}", json=found.without(provider))
            if answer.status != HTTPStatus.NO_CONTENT:
                raise answer.not_understood(f"answered {answer.status} to a write that has no answer")

    await revise(f"take back what {consumer} has of resource provider {provider}", once, wait_s=wait_s)
    return taken
