"""A host whose guests a real nova-compute has defined and started once, and what puts it back as it was then.

To be used in namespaces of one's own, see :func:`in_own_host`.
"""

import contextlib
import json
import shutil
import sqlite3
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.computer import Computer
from support.libvirtd import Libvirtd, namespaces
from support.neutron import Neutron
from support.nova import Nova
from support.openstack import a_cloud_host
from support.programs import path_of
from support.real_compute import RealCompute, image_metadata, local_disk, make_disk

VIR_DOMAIN_UNDEFINE_MANAGED_SAVE = 1
VIR_DOMAIN_XML_INACTIVE = 2
BY_US = ("tap", "qbr", "qvo", "qvb")


def in_own_host(*command: str) -> list[str]:
    """Return the command that runs another one in namespaces that end with it: network, host name, mounts, PIDs."""
    inside = 'ip link set lo up && mount -t sysfs sysfs /sys && exec "$@"'
    return [*namespaces("--net", "--uts"), "sh", "-c", inside, "-", *command]


@dataclass(frozen=True)
class Peers:
    """What else is there of a cloud."""

    nova: Nova
    neutron: Neutron
    ovsdb: str
    """The address of Open vSwitch's database."""


class NovaMade:
    """A host, its records in Nova's database, and its guests as Nova defines them."""

    def __init__(
        self,
        directory: Path,
        server: Libvirtd,
        peers: Peers,
        records: Sequence[Mapping[str, Any]],
        **sections: Mapping[str, Any],
    ) -> None:
        """Make the guests, each with what its record has beside what all have; ``sections`` are settings of bringup."""
        self.server, self.nova, self.directory = server, peers.nova, directory
        self._host = a_cloud_host(self.nova, directory, **sections)
        del self.computer.sections["driver"]
        self.instances = server.directory / "instances"
        self.computer.having(
            driver={"name": "libvirt"}, libvirt={"uri": server.uri, "instances_path": str(self.instances)}
        )
        self.compute = RealCompute(self._host, server, directory, ovsdb=peers.ovsdb, neutron=peers.neutron.url)
        self.computer.having(network={"ovsdb": peers.ovsdb})
        self.uuids = [self._host.instance(number)["uuid"] for number in range(len(records))]
        self.nova.make(*(self._record(number, record) for number, record in enumerate(records)))
        make_disk(directory / "disk")
        for each in self.uuids:
            (self.instances / each).mkdir(parents=True)
            self.make_files(self.instances / each)
        self._start_with_nova()

    @property
    def computer(self) -> Computer:
        """The host as bringup has it."""
        return self._host.computer

    @property
    def name(self) -> str:
        """Its name in Nova."""
        return self._host.name

    def _record(self, number: int, more: Mapping[str, Any]) -> dict[str, Any]:
        values = {
            "node": self.name,
            "launched_on": self.name,
            "image_ref": image_metadata()["image_base_image_ref"],
            "root_device_name": "/dev/vda",
            "hostname": f"vm-{number}",
            "reservation_id": "r-1",
            "config_drive": "",
            "key_data": None,
            "os_type": None,
            "architecture": None,
            "system_metadata": image_metadata(),
            "network_info": [],
            "block_devices": [local_disk()],
        }
        return self._host.instance(number, **{**values, **more})

    def make_files(self, folder: Path) -> None:
        """Make what Nova has in the folder of an instance."""
        shutil.copy(self.directory / "disk", folder)

    def store_files(self) -> None:
        """Store the files of the guests."""
        shutil.copytree(self.instances, self.directory / "instances")

    def restore_files(self) -> None:
        """Restore the files of the guests."""
        shutil.rmtree(self.instances)
        shutil.copytree(self.directory / "instances", self.instances)

    def _start_with_nova(self) -> None:
        """Make Nova define and start all, and store what there is."""
        error = self.compute.run()
        assert error is None, error
        with self.server.connected() as connection:
            domains = {each.UUIDString(): each for each in connection.listAllDomains()}
            assert all(domains[each].state()[0] == 1 for each in self.uuids), self.compute.log.read_text()[-4000:]
            self.definitions = {each: domains[each].XMLDesc(VIR_DOMAIN_XML_INACTIVE) for each in self.uuids}
        self.store_files()
        self._database = self.directory / "cell.sqlite"
        _copy(self.nova.directory / "nova_cell1.sqlite", self._database)

    def boot(self) -> None:
        """Boot: no guest, no link, no state of bringup; files and records are those of the guests that Nova made."""
        self.remove_guests()
        self.restore_files()
        shutil.rmtree(self.computer.state, ignore_errors=True)
        _copy(self._database, self.nova.directory / "nova_cell1.sqlite")

    def remove_guests(self) -> None:
        """Remove all guests and their links."""
        with self.server.connected() as connection:
            for domain in connection.listAllDomains():
                if domain.isActive():
                    domain.destroy()
                domain.undefineFlags(VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
        for link in json.loads(subprocess.check_output([path_of("ip"), "-json", "link"])):
            if link["ifname"].startswith(BY_US):
                subprocess.run([path_of("ip"), "link", "del", link["ifname"]], check=False, capture_output=True)

    def close(self) -> None:
        """Remove the guests and what they had."""
        self.remove_guests()
        shutil.rmtree(self.instances)


def _copy(source: Path, target: Path) -> None:
    """Copy a database that others have open into one that others have open."""
    with contextlib.closing(sqlite3.connect(source)) as here, contextlib.closing(sqlite3.connect(target)) as there:
        here.backup(there)
