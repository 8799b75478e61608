"""The resource provider of this node: by its UUID, then by its name, and never a second one.

Nova's scheduler finds a node's provider by the UUID of the node.  Two providers for one node would give the scheduler
its capacity twice.
"""

import shlex

from bringup.placement.client import PlacementClient
from bringup.placement.errors import Conflict, ProviderMisnamed, ProviderMissing
from bringup.placement.microversions import Microversion
from bringup.placement.naming import may_be_one_host, others_of
from bringup.placement.providers import (
    ResourceProvider,
    as_uuid,
    create_provider,
    look_up,
    look_up_uuid,
    names_of_all,
)


async def find_node(
    client: PlacementClient, name: str, uuid: str | None
) -> tuple[ResourceProvider | None, Microversion | None]:
    """Look for a node's provider, and tell in which microversion the answer was.

    ``name`` is what the settings say, a name or a UUID.  Where the ``uuid`` of the node is known, it is looked for
    first, and what is found by it is this node's also where only one of the two names is the full one.

    :raises ProviderMisnamed: what has this node's UUID has a name that is not this host's.
    :raises PlacementError: nobody could tell.
    """
    if uuid is not None and as_uuid(name) is None:
        found, version = await look_up_uuid(client, uuid)
        if found is not None:
            if may_be_one_host(name, found.name):
                return found, version
            raise ProviderMisnamed(_what(client, name), f"{told(found)} {_IF_OURS}")
    return await look_up(client, name)


_IF_OURS = "if that is this host; else host.node_uuid is another node's"


def told(found: ResourceProvider) -> str:
    """Say how this node's provider is called, and what to set."""
    return f"provider {found.uuid} is called {found.name}: {_set_to(found.name)}"


def _set_to(name: str) -> str:
    # As TOML has it.
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'set placement.resource_provider = "{quoted}"'


async def make_node(client: PlacementClient, name: str, *, create: bool, uuid: str | None) -> ResourceProvider:
    """Make the provider of a node that has none.

    :raises ProviderMissing: it is not to be made.
    :raises ProviderMisnamed: there may be one already.
    :raises PlacementError: it could not be made.
    """
    what = _what(client, name)
    if as_uuid(name) is not None:
        raise ProviderMissing(
            what, "there is none with this UUID or name; set placement.resource_provider to the name of this host's"
        )
    every = await names_of_all(client)
    others = others_of(name, every)
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
        # Somebody was faster: nova-compute, another start.
        found, _ = await find_node(client, name, uuid)
        if found is None:
            raise
        return found


def _may_be_ours(other: str, its_uuid: str, uuid: str | None) -> str:
    said = f"there is none, but provider {its_uuid} is called {other}: {_set_to(other)} if that is this host"
    if uuid is not None:
        said += f", and host.node_uuid = {its_uuid} (it is {uuid})"
    return f"{said}; else set placement.resource_provider to the full name of this one"


def _what(client: PlacementClient, name: str) -> str:
    return f"find resource provider {name!r} in Placement at {client.url}"
