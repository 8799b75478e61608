"""Resource providers: found by name or UUID, created."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from bringup.placement.client import PlacementClient
from bringup.placement.errors import Conflict
from bringup.placement.microversions import Microversion, microversion_of
from bringup.placement.response import Response


@dataclass(frozen=True, slots=True)
class ResourceProvider:
    """A resource provider; for a compute host the uuid is its compute node's, the name its hypervisor host name."""

    uuid: str
    name: str
    generation: int
    """Version of its inventory; Placement refuses a change that is based on an older one."""
    request_id: str | None = field(default=None, compare=False)
    """The ``x-openstack-request-id`` of the response, as in Placement's log."""


async def find_provider(client: PlacementClient, name_or_uuid: str) -> ResourceProvider | None:
    """Find a provider by UUID where the text is one, then by name.

    :raises PlacementError: it could not be found out.
    """
    found, _ = await look_up(client, name_or_uuid)
    return found


async def look_up(client: PlacementClient, name_or_uuid: str) -> tuple[ResourceProvider | None, Microversion | None]:
    """Find a provider like :func:`find_provider`; return it with the microversion of the response.

    :raises PlacementError: it could not be found out.
    """
    uuid = as_uuid(name_or_uuid)
    if uuid is not None:
        found, version = await _find(client, {"uuid": uuid})
        if found is not None:
            return found, version
    return await _find(client, {"name": name_or_uuid})


async def look_up_uuid(client: PlacementClient, uuid: str) -> tuple[ResourceProvider | None, Microversion | None]:
    """Find a provider by its UUID alone; return it with the microversion of the response.

    :raises PlacementError: it could not be found out.
    """
    return await _find(client, {"uuid": as_uuid(uuid) or uuid})


async def all_names(client: PlacementClient) -> dict[str, str]:
    """Return the UUIDs of all providers by name; only for a start without a provider.

    :raises PlacementError: they could not be read.
    """
    answer = await client.request("GET", "/resource_providers")
    match answer.json():
        case {"resource_providers": [*entries]}:
            found = (_provider(answer, entry) for entry in entries)
            return {provider.name: provider.uuid for provider in found}
        case _:
            raise answer.not_understood("did not answer with resource providers")


async def create_provider(client: PlacementClient, name: str, uuid: str | None = None) -> ResourceProvider:
    """Create a provider; return the existing one where another start was faster.

    :raises Conflict: the UUID is taken by another name, or the name by another UUID.
    :raises PlacementError: it could not be created.
    """
    wanted = {"name": name} if uuid is None else {"name": name, "uuid": uuid}
    try:
        answer = await client.request("POST", "/resource_providers", json=wanted)
    except Conflict:
        # Below microversion 1.23 no code distinguishes a duplicate name from other conflicts.
        found, _ = await _find(client, {"name": name})
        if found is None or (uuid is not None and found.uuid != as_uuid(uuid)):
            raise
        return found
    if answer.body:
        return _provider(answer, answer.json())
    # Before 1.20: 201 with the address, whose host may be behind a proxy.
    made = as_uuid(answer.headers.get("Location", "").rstrip("/").rpartition("/")[2])
    if made is None:
        raise answer.not_understood("made a resource provider without saying where it is")
    shown = await client.request("GET", f"/resource_providers/{made}")
    return _provider(shown, shown.json())


def as_uuid(text: str) -> str | None:
    """Return a UUID as Placement writes it; None if the text is not one."""
    try:
        uuid = str(UUID(text))
    except ValueError:
        return None
    # UUID() also accepts braces and prefixes, which are not UUIDs for Placement and may be names.
    return uuid if text.lower() in {uuid, uuid.replace("-", "")} else None


async def _find(
    client: PlacementClient, filters: Mapping[str, str]
) -> tuple[ResourceProvider | None, Microversion | None]:
    answer = await client.request("GET", "/resource_providers", params=filters)
    version = microversion_of(answer.headers)
    match answer.json():
        case {"resource_providers": []}:
            return None, version
        case {"resource_providers": [only]}:
            return _provider(answer, only), version
        case _:
            raise answer.not_understood("did not answer with one resource provider or none")


def _provider(answer: Response, entry: Any) -> ResourceProvider:
    match entry:
        case {"uuid": str() as uuid, "name": str() as name, "generation": int() as generation}:
            return ResourceProvider(uuid, name, generation, answer.request_id)
        case _:
            raise answer.not_understood("described a resource provider without uuid, name and generation")
