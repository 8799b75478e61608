"""Repairs of guests whose live snapshot, resize or cold migration was interrupted.

A live snapshot leaves a copy that never ends, and a guest without a definition: Nova deletes the definition of a guest
while its disk is copied, since older libvirts copied only then.
"""

from pathlib import Path

import structlog

from bringup.drivers.base import InstanceNotFound
from bringup.drivers.libvirt.binding import Connection, Domain
from bringup.drivers.libvirt.definitions import DiskCopy, copies_of, require_definition_of
from bringup.drivers.libvirt.hypervisor import Hypervisor
from bringup.drivers.libvirt.power import Power

log = structlog.get_logger()


async def clean_up_after_snapshot(hypervisor: Hypervisor, power: Power, uuid: str, left: list[Path]) -> None:
    """Stop copies of disks, restore the guest's definition; the files that were being written are added to ``left``.

    libvirt reports them only while the copy runs: so they are added before it is stopped.
    """
    look = await hypervisor.read(uuid)
    copies: list[DiskCopy] = []
    if look.active:
        what = f"find a snapshot of {uuid}"
        copies = await hypervisor.query(
            what, lambda connection: copies_of(connection.lookupByUUIDString(uuid).XMLDesc())
        )
    left += [copy.to for copy in copies if copy.to is not None]
    for copy in copies:

        def end(domain: Domain, disk: str = copy.disk) -> None:
            # It may have ended by itself.
            if domain.blockJobInfo(disk):
                domain.blockJobAbort(disk)

        await hypervisor.do("stop the copy of a disk of", uuid, end)
        log.info("libvirt.snapshot_ended", instance=uuid, disk=copy.disk, to=str(copy.to))
    if look.active and not look.persistent:
        await power.keep_definition(uuid)


async def define_again(hypervisor: Hypervisor, uuid: str, definition: str | None) -> None:
    """Define a guest with ``definition`` if libvirt has lost it; one that is defined stays as it is.

    :raises InstanceNotFound: it is not defined, and ``definition`` is None.
    """
    try:
        await hypervisor.read(uuid)
    except InstanceNotFound:
        if definition is None:
            raise
        xml = require_definition_of(definition, uuid)

        def define(connection: Connection) -> None:
            connection.defineXML(xml)

        await hypervisor.change(f"define {uuid} again", define)
