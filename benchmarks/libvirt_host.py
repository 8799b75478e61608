"""What the command is given on a host with real libvirt: records of guests that ran, and settings."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.states import PowerState, VmState
from bringup.daemon.storage.store.base import Records
from bringup.daemon.storage.store.sql import open_store
from bringup.daemon.storage.store.sqlite import open_database

HOST = "compute-1"


async def store(directory: Path, uuids: list[str]) -> None:
    """Write the records of guests that ran."""
    async with open_store(partial(open_database, directory / "instances.sqlite")) as records:
        await records.import_records(
            Records(
                instances=tuple(
                    Instance(uuid=uuid, host=HOST, vm_state=VmState.ACTIVE, power_state=PowerState.RUNNING)
                    for uuid in uuids
                )
            )
        )


def command(
    directory: Path, uri: str, placement: str, given: Mapping[str, str], *options: str, python: str = sys.executable
) -> list[str]:
    """Return the command that brings these guests back: libvirt at ``uri``, the Placement at a URL, more settings."""
    values = {
        "placement.url": placement,
        "placement.create_resource_provider": "true",
        "host.name": HOST,
        "host.state_directory": str(directory),
        "driver.name": "libvirt",
        "libvirt.uri": uri,
        "libvirt.instances_path": str(directory),
        "resume.guests": "on_every_start",
        **given,
    }
    sets = [part for key, value in values.items() for part in ("-s", f"{key}={value}")]
    return [python, "-m", "bringup", "run", *options, "--json", *sets]
