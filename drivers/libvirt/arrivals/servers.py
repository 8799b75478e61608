"""Servers of network disks that do not answer, probed until they do.

One probe for each, however many guests wait for it.
"""

import random
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NoReturn

import anyio

from bringup.drivers.libvirt.guest_needs.disk_servers import DiskServers, probe_server
from bringup.drivers.libvirt.guest_needs.host import HostFiles
from bringup.drivers.libvirt.guest_needs.rules.definition import Server
from bringup.drivers.libvirt.threads import in_thread
from bringup.drivers.needs import Need

EVERY_S: Final = 10.0
AT_ONCE: Final = 16

ProbedServer = tuple[str, Server]
"""Protocol and server."""


def _silent(host: HostFiles, servers: Collection[ProbedServer]) -> set[ProbedServer]:
    """Return those that do not answer; blocks."""
    with ThreadPoolExecutor(min(AT_ONCE, len(servers))) as threads:
        found = threads.map(lambda each: probe_server(host, *each), servers)
        return {each for each, why in zip(servers, found, strict=True) if why}


async def watch_servers(
    host: HostFiles, disks: Mapping[Need, DiskServers], notify: Callable[[Need], None], *, every_s: float = EVERY_S
) -> NoReturn:
    """Call ``notify`` with the need of each disk a silent server of which answers, until cancelled."""
    servers = {(origin.protocol, server) for origin in disks.values() for server in origin.servers}
    silent = set(servers)
    while True:
        # Jittered: all hosts of a region wait for the same servers.
        await anyio.sleep(every_s * random.uniform(0.75, 1.25))  # noqa: S311 - no secret
        before, silent = silent, await in_thread(lambda _: _silent(host.for_one_guest(), servers))
        for need, origin in disks.items():
            if any((origin.protocol, server) in before - silent for server in origin.servers):
                notify(need)
