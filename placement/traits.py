"""What a host is: traits.  Ours are added, nobody's are taken away."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from bringup.placement.answers import Answer
from bringup.placement.client import PlacementClient
from bringup.placement.update_with_generation import revise

NODE_TRAITS: Final = frozenset({"COMPUTE_NODE", "OWNER_NOVA"})
"""What every compute node of Nova has; its scheduler asks for ``OWNER_NOVA`` (``owner_nova_filter``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """The traits of a provider, and the generation that they were read at."""

    generation: int
    names: frozenset[str]


async def read_traits(client: PlacementClient, provider: str) -> Traits:
    """Read the traits of the provider with this UUID; microversion 1.6 or later.

    :raises PlacementError: they could not be read.
    """
    return _read(await client.request("GET", f"/resource_providers/{provider}/traits"))


def _read(answer: Answer) -> Traits:
    match answer.json():
        case {"traits": [*names], "resource_provider_generation": int(generation)} if all(
            isinstance(name, str) for name in names
        ):
            return Traits(generation=generation, names=frozenset(names))
        case _:
            raise answer.not_understood("described traits without a generation")


async def put_traits_right(
    client: PlacementClient, provider: str, wanted: Collection[str], *, wait_s: float
) -> tuple[str, ...]:
    """Add those that are missing, on whatever generation; give which.

    :raises PlacementError: they could not be added.
    """
    added: list[str] = []

    async def once() -> None:
        found = await read_traits(client, provider)
        missing = sorted(set(wanted) - found.names)
        if missing:
            added[:] = missing
            body = {"resource_provider_generation": found.generation, "traits": sorted(found.names | set(wanted))}
            # Read as well: a page of a proxy may say 200, too.
            _read(await client.request("PUT", f"/resource_providers/{provider}/traits", json=body))

    await revise(f"put the traits of resource provider {provider} right", once, wait_s=wait_s)
    return tuple(added)
