"""A guest whose resize or cold migration was cut short: its definition, where libvirt has lost it."""

from bringup.drivers.base import InstanceNotFound
from bringup.drivers.libvirt.binding import Connection
from bringup.drivers.libvirt.definitions import checked
from bringup.drivers.libvirt.hypervisor import Hypervisor


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
