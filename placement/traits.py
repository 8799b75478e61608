"""Traits of a resource provider: missing ones are added, none is removed."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from bringup.placement.client import PlacementClient
from bringup.placement.response import Response
from bringup.placement.update_with_generation import update_with_generation

NODE_TRAITS: Final = frozenset({"COMPUTE_NODE", "OWNER_NOVA"})
"""Traits of every compute node of Nova; its scheduler filters by ``OWNER_NOVA`` (``owner_nova_filter``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """The traits of a provider, and the generation that they were read at."""

    generation: int
    names: frozenset[str]


async def read_traits(client: PlacementClient, provider: str) -> Traits:
    """Read the traits of the provider with this UUID; needs microversion 1.6.

    :raises PlacementError: they could not be read.
    """
    return _read(await client.request("GET", f"/resource_providers/{provider}/traits"))


def _read(answer: Response) -> Traits:
    match answer.json():
        case {"traits": [*names], "resource_provider_generation": int(generation)} if all(
            isinstance(name, str) for name in names
        ):
            return Traits(generation=generation, names=frozenset(names))
        case _:
            raise answer.not_understood("described traits without a generation")


async def update_traits(
    client: PlacementClient, provider: str, wanted: Collection[str], *, wait_s: float
) -> tuple[str, ...]:
    """Add the missing traits, retried on a generation conflict; return them.

    :raises PlacementError: they could not be added.
    """
    added: list[str] = []

    async def once() -> None:
        found = await read_traits(client, provider)
        missing = sorted(set(wanted) - found.names)
        if missing:
            added[:] = missing
            body = {"resource_provider_generation": found.generation, "traits": sorted(found.names | set(wanted))}
            # Parsed too: a page of a proxy may also be a 200.
            _read(await client.request("PUT", f"/resource_providers/{provider}/traits", json=body))

    await update_with_generation(f"update the traits of resource provider {provider}", once, wait_s=wait_s)
    return tuple(added)
