"""Check of guests 1 and 2 of a libvirtd by the user of this process (``needs_child.py URI``); JSON lines."""

import json
import sys

import anyio

from bringup.drivers.libvirt.driver import LibvirtDriver
from bringup.drivers.libvirt_options import LibvirtOptions
from support.drivers import driver_guest


async def main() -> None:
    """Run the check."""
    driver = LibvirtDriver(LibvirtOptions(uri=sys.argv[1], autostart="warn"))
    await driver.init_host("compute-1")
    for number in (1, 2):
        needs = await driver.needs(driver_guest(number))
        print(json.dumps({need.name: [need.state.value, need.met_by.value] for need in needs}))  # noqa: T201
    await driver.close()


anyio.run(main)
