"""What a live snapshot leaves that was cut short: a copy that goes on for ever, and a guest without a definition.

Nova takes the definition of a guest away while its disk is copied, for older libvirts copied only then.
"""

from pathlib import Path

import structlog

from bringup.drivers.base import InstanceNotFound
from bringup.drivers.libvirt.binding import Connection, Domain
from bringup.drivers.libvirt.definitions import Copying, checked, copies_of
from bringup.drivers.libvirt.hypervisor import Hypervisor
from bringup.drivers.libvirt.power import Power

log = structlog.get_logger()


async def clean_up_after_snapshot(hypervisor: Hypervisor, power: Power, uuid: str, left: list[Path]) -> None:
    """End copies of disks, give the guest its definition back; ``left`` gets the files that were being written.

    They are known for as long as the copy goes on only: so they are noted before it is ended.
    """
    look = await hypervisor.look(uuid)
    copies: list[Copying] = []
    if look.active:
        ask = f"look for a snapshot of {uuid}"
        copies = await hypervisor.ask(ask, lambda connection: copies_of(connection.lookupByUUIDString(uuid).XMLDesc()))
    left += [copy.to for copy in copies if copy.to is not None]
    for copy in copies:

        def end(domain: Domain, disk: str = copy.disk) -> None:
            # It may have ended by itself.
            if domain.blockJobInfo(disk):
                domain.blockJobAbort(disk)

        await hypervisor.do("end the copy of a disk of", uuid, end)
        log.info("libvirt.snapshot_ended", instance=uuid, disk=copy.disk, to=str(copy.to))
    if look.active and not look.persistent:
        await power.keep_definition(uuid)


async def take_back(hypervisor: Hypervisor, uuid: str, definition: str | None) -> None:
    """Make sure that a guest is defined, with ``definition`` where it is not; one that is stays as it is.

    :raises InstanceNotFound: it is not, and there is no definition of it.
    """
    try:
        await hypervisor.look(uuid)
    except InstanceNotFound:
        if definition is None:
            raise
        xml = checked(definition, uuid)

        def define(connection: Connection) -> None:
            connection.defineXML(xml)

        await hypervisor.change(f"define {uuid} again", define)
