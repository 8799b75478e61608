"""How Proxmox VE and Incus start the guests of a host, as published, with libvirt's calls in place of their own."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from bringup.drivers.libvirt.binding import binding
from support.libvirtd import Libvirtd


class Creating:
    """Starts of guests in threads, each on a connection of its own."""

    def __init__(self, server: Libvirtd, at_once: int) -> None:
        """Connect."""
        self._free = [binding().open(server.uri) for _ in range(at_once)]
        self._pool = ThreadPoolExecutor(at_once)

    def submit(self, uuid: str) -> "Future[None]":
        """Start a guest in a thread."""
        return self._pool.submit(self._create, uuid)

    def _create(self, uuid: str) -> None:
        connection = self._free.pop()
        connection.lookupByUUIDString(uuid).create()
        self._free.append(connection)


PROXMOX_LOOKS_S: Final = 1.0
PROXMOX_DELAY_S: Final = 3.0
PROXMOX_WORKERS: Final = 4


def proxmox_boot(server: Libvirtd, uuids: Sequence[str]) -> None:
    """Start one guest after the other: each second a look whether its task has ended, and then three seconds more.

    ``startall`` of pve-manager (PVE/API2/Nodes.pm), which a node calls when it boots; no guest has a delay of its own.
    """
    creating = Creating(server, 1)
    for uuid in uuids:
        task = creating.submit(uuid)
        while not task.done():
            time.sleep(PROXMOX_LOOKS_S)
        task.result()
        time.sleep(PROXMOX_DELAY_S)


def proxmox_bulk(server: Libvirtd, uuids: Sequence[str]) -> None:
    """Start four guests at once, with a look each second for one that has ended.

    Its bulk action for operators (PVE/API2/Cluster/BulkAction/Guest.pm), with ``max-workers`` as it is by default.
    """
    creating = Creating(server, PROXMOX_WORKERS)
    tasks: list[Future[None]] = []
    for uuid in uuids:
        while sum(not task.done() for task in tasks) >= PROXMOX_WORKERS:
            time.sleep(PROXMOX_LOOKS_S)
        tasks.append(creating.submit(uuid))
    for task in tasks:
        task.result()


INCUS_ATTEMPTS: Final = 3
INCUS_AGAIN_S: Final = 5.0


def incus(server: Libvirtd, uuids: Sequence[str]) -> None:
    """Start one guest after the other, by priority and name; one that fails is tried three times, after five seconds.

    ``instancesStart`` of incusd (cmd/incusd/instances.go); all have the same priority, and none has a delay.
    """
    with server.connected() as connection:
        for uuid in sorted(uuids):
            for attempt in range(1, INCUS_ATTEMPTS + 1):
                try:
                    connection.lookupByUUIDString(uuid).create()
                    break
                except binding().libvirtError:
                    if attempt == INCUS_ATTEMPTS:
                        raise
                    time.sleep(INCUS_AGAIN_S)
