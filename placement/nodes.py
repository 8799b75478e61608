"""Resource provider of this node: found by UUID, then by name, and never created a second time.

Nova's scheduler finds a node's provider by the UUID of the node.  With two providers the scheduler would count the
capacity of the node twice.  Nova names a resource provider as the hypervisor names its host, often the full name;
``host.name`` is the name in Nova's records, often the short one.
"""

import shlex
from collections.abc import Iterable

from bringup.placement.client import PlacementClient
from bringup.placement.errors import Conflict, ProviderMisnamed, ProviderMissing
from bringup.placement.microversions import Microversion
from bringup.placement.providers import (
    ResourceProvider,
    all_names,
    as_uuid,
    create_provider,
    look_up,
    look_up_uuid,
)


async def find_node(
    client: PlacementClient, name: str, uuid: str | None
) -> tuple[ResourceProvider | None, Microversion | None]:
    """Find a node's provider; return it with the microversion of the response.

    ``name`` is that of the settings, a name or a UUID.  A known ``uuid`` of the node is searched first, and its
    provider is this node's also where only one of the two names is the full one.

    :raises ProviderMisnamed: the provider with this UUID has a name that is not this host's.
    :raises PlacementError: it could not be found out.
    """
    if uuid is not None and as_uuid(name) is None:
        found, version = await look_up_uuid(client, uuid)
        if found is not None:
            if may_be_one_host(name, found.name):
                return found, version
            raise ProviderMisnamed(_what(client, name), f"{describe_provider(found)} {_IF_OURS}")
    return await look_up(client, name)


_IF_OURS = "if that is this host; else host.node_uuid is another node's"


def describe_provider(found: ResourceProvider) -> str:
    """Return the name of this node's provider, and the setting for it."""
    return f"provider {found.uuid} is called {found.name}: {_set_to(found.name)}"


def _set_to(name: str) -> str:
    # As TOML has it.
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'set placement.resource_provider = "{quoted}"'


async def create_node_provider(
    client: PlacementClient, name: str, *, create: bool, uuid: str | None
) -> ResourceProvider:
    """Create the provider of a node that has none.

    :raises ProviderMissing: it may not be created.
    :raises ProviderMisnamed: there may be one already.
    :raises PlacementError: it could not be created.
    """
    what = _what(client, name)
    if as_uuid(name) is not None:
        raise ProviderMissing(
            what, "there is none with this UUID or name; set placement.resource_provider to the name of this host's"
        )
    every = await all_names(client)
    others = similar_names(name, every)
    if others:
        raise ProviderMisnamed(what, _may_be_ours(others[0], every[others[0]], uuid))
    if not create:
        node = "" if uuid is None else f"--uuid {uuid} "
        raise ProviderMissing(
            what,
            f"there is none; make it with: openstack resource provider create {node}{shlex.quote(name)}, "
            "or set placement.create_resource_provider = true",
        )
    try:
        return await create_provider(client, name, uuid)
    except Conflict:
        # Another writer was faster: nova-compute, another start.
        found, _ = await find_node(client, name, uuid)
        if found is None:
            raise
        return found


def _may_be_ours(other: str, its_uuid: str, uuid: str | None) -> str:
    advice = f"there is none, but provider {its_uuid} is called {other}: {_set_to(other)} if that is this host"
    if uuid is not None:
        advice += f", and host.node_uuid = {its_uuid} (it is {uuid})"
    return f"{advice}; else set placement.resource_provider to the full name of this one"


def _what(client: PlacementClient, name: str) -> str:
    return f"find resource provider {name!r} in Placement at {client.url}"


def may_be_one_host(one: str, other: str) -> bool:
    """Check whether two names are the same, or one is the short form of the other."""
    first, second = one.lower().rstrip("."), other.lower().rstrip(".")
    return first == second or first.startswith(f"{second}.") or second.startswith(f"{first}.")


def similar_names(name: str, names: Iterable[str]) -> list[str]:
    """Return the names that may be of the same host, without this one."""
    return sorted(other for other in names if other != name and may_be_one_host(name, other))
