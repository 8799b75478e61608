"""Runs a host in every situation twice: by nova-compute alone, and by bringup and then nova-compute.

``regret_lab.py [NAME ...]``, in namespaces of its own (see :func:`command`); a line of JSON a situation.  One cloud and
one libvirtd serve both, as does one set of guests: what they were is restored in between.
"""

import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from support import boot_sectors
from support.libvirtd import Libvirtd
from support.neutron import a_neutron
from support.nova import a_nova
from support.nova_made import NovaMade, Peers, in_own_host
from support.open_vswitch import Switch
from support.programs import path_of
from support.real_compute import with_compute
from support.regret import SITUATIONS, WITH_SERVICES_AWAY, Observation, Situation
from support.regret_devices import ABSENT, DEVICES, TAGS, a_vif

STATES = {1: "running", 3: "paused", 4: "off", 5: "off", 6: "crashed", 7: "asleep"}


def command(*names: str) -> list[str]:
    """Return the command that runs the lab in namespaces that end with it."""
    return in_own_host(sys.executable, "-m", "support.regret_lab", *names)


SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "resume": {"guests": "on_every_start", "wait_for_needs": 2},
    "limits": {
        "concurrency": 8,
        "instance_deadline": 110,
        "host_deadline": 60,
        "shutdown_report_deadline": 10,
        "host_wait": 2,
    },
    # What is asked is how each ends: nobody waits until boot sectors are quiet.
    "pace": {"hold": 0},
    "evacuated": {"shared_storage": "local"},
    "guards": {"destroy_share": 1.0},
}


class Lab(NovaMade):
    """A host whose guests are in a situation each."""

    def __init__(self, directory: Path, server: Libvirtd, peers: Peers, rows: Sequence[Situation]) -> None:
        self.rows, self._neutron = rows, peers.neutron
        records = [{"network_info": [a_vif(row.vif, at)] if row.vif else []} for at, row in enumerate(rows)]
        super().__init__(directory, server, peers, records, **SETTINGS)
        self._other, _ = self.nova.a_host()
        self._loop = self._a_loop_device()

    def _a_loop_device(self) -> str:
        """Make a block device that is another tenant's volume."""
        other = self.directory / "volume-of-another"
        other.write_bytes(bytes(1 << 20))
        done = subprocess.run(
            [path_of("losetup"), "--find", "--show", other], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def boot(self) -> None:
        """Boot, and put each guest into its situation."""
        super().boot()
        vifs = [(each, a_vif(row.vif, at)["id"]) for at, (each, row) in enumerate(self._each()) if row.vif]
        self._neutron.have([(port, each) for each, port in vifs])
        with self.server.connected() as connection:
            for number, row in enumerate(self.rows):
                self._set_up(connection, number, row)

    def _each(self) -> Iterator[tuple[str, Situation]]:
        return zip(self.uuids, self.rows, strict=True)

    def _set_up(self, connection: Any, number: int, row: Situation) -> None:
        each = self.uuids[number]
        definition = self.definitions[each]
        for one in row.spoil:
            definition = self._spoil(each, one, definition)
        if row.found != "undefined" and "definition gone" not in row.spoil:
            domain = connection.defineXML(definition)
            if row.found != "off":
                domain.create()
            if row.found == "paused":
                domain.suspend()
            if row.found == "saved":
                domain.managedSave()
        changes = {key: self._other if value == "another" else value for key, value in row.record.items()}
        if changes:
            self.nova.ask("save_instance", uuid=each, changes=changes)
        if row.migration:
            ends = {"source_compute": self.name, "dest_compute": self._other}
            migration = {"uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, each)), "instance_uuid": each, **ends}
            self.nova.ask("make_migrations", migrations=[migration | row.migration])

    def _spoil(self, each: str, what: str, definition: str) -> str:
        disk = self.instances / each / "disk"
        if what == "own disk gone":
            disk.unlink()
        elif what == "disks at _resize":
            disk.parent.rename(disk.parent.with_name(f"{each}_resize"))
        elif what == "disk by a kernel name that another volume has now":
            volume = self._volume(each)
            volume.write_bytes(bytes(1 << 20))
            self.nova.ask("make_volume", uuid=each, volume_id=ABSENT, path=str(volume), device="/dev/vdb")
            source = f"<driver name='qemu' type='raw'/><source dev='{self._loop}'/><target dev='vdb' bus='virtio'/>"
            device = f"<disk type='block' device='disk'>{source}<serial>{ABSENT}</serial></disk>"
            return definition.replace("</devices>", f"{device}</devices>")
        elif what in DEVICES:
            device = DEVICES[what].format(state=self.directory / "compute", disk=disk)
            if what.startswith("USB"):
                definition = re.sub(r"(<controller type='usb'[^>]*model=)'none'", r"\1'qemu-xhci'", definition)
            return definition.replace("</devices>", f"{device}</devices>")
        elif what in TAGS:
            return definition.replace(*TAGS[what], 1)
        return definition

    def _volume(self, each: str) -> Path:
        return self.directory / f"volume-{each}"

    def look(self) -> list[Observation]:
        """Return the outcome of every instance."""
        found = self.nova.read(self.uuids)
        with self.server.connected() as connection:
            domains = {each.UUIDString(): each for each in connection.listAllDomains()}
            return [self._seen(each, found[each], domains.get(each)) for each in self.uuids]

    def _seen(self, each: str, record: dict[str, Any], domain: Any) -> Observation:
        guest = "gone" if domain is None else STATES[domain.state()[0]]
        if guest == "off" and domain.hasManagedSaveImage():
            guest = "saved"
        on_wrong = guest == "running" and bool(re.search(rf"dev='{self._loop}'", domain.XMLDesc()))
        return Observation(
            guest=guest,
            vm_state=record["vm_state"],
            task_state=record["task_state"],
            deleted=bool(record["deleted"]),
            disk=(self.instances / each / "disk").exists(),
            wrong_disk=on_wrong,
            ports=self._neutron.left(each),
        )

    def nova_alone(self) -> list[Observation]:
        """Boot, and start nova-compute."""
        self.boot()
        error = self.compute.run()
        assert error is None, error
        return self.look()

    def both(self) -> list[Observation]:
        """Boot, and start bringup, then nova-compute."""
        self.boot()
        ended = self.computer.run()
        assert ended.code == 0, ended.out[-4000:] + ended.err
        (self.directory / "bringup.log").write_text(ended.out)
        between = self.look()
        error = self.compute.run()
        assert error is None, error
        seen = []
        for each, then, now in zip(self.uuids, between, self.look(), strict=True):
            outcome = ended.outcomes.get(each, "")
            wrong = then.wrong_disk or now.wrong_disk
            seen.append(Observation(**{**asdict(now), "outcome": outcome, "wrong_disk": wrong}))
        return seen

    def close(self) -> None:
        """Release the block device as well."""
        super().close()
        subprocess.run([path_of("losetup"), "--detach", self._loop], check=False)


@contextlib.contextmanager
def _database_away(lab: Lab, switch: Switch) -> Iterator[None]:
    """Stop Open vSwitch's database from answering."""
    del lab
    switch.stop_database()
    try:
        yield
    finally:
        switch.start_database()
        switch.until_connected()


@contextlib.contextmanager
def _switch_away(lab: Lab, switch: Switch) -> Iterator[None]:
    """Stop the switch, and leave Open vSwitch's database."""
    del lab
    switch.stop_switch()
    try:
        yield
    finally:
        switch.start()


@contextlib.contextmanager
def _instances_away(lab: Lab, switch: Switch) -> Iterator[None]:
    """Unmount the file system of the guests' disks."""
    del switch
    away = lab.instances.with_name("instances-away")
    lab.instances.rename(away)
    try:
        yield
    finally:
        shutil.rmtree(lab.instances, ignore_errors=True)
        away.rename(lab.instances)


AWAY: dict[str, Callable[[Lab, Switch], contextlib.AbstractContextManager[None]]] = {
    "Open vSwitch's database": _database_away,
    "Open vSwitch's daemon": _switch_away,
    "The file system of instances_path": _instances_away,
}


def each_instance(lab: Lab) -> None:
    """Run every situation both ways, and tell what came of each."""
    for row, alone, both in zip(lab.rows, lab.nova_alone(), lab.both(), strict=True):
        tell(row.name, alone, both)


def each_service_away(lab: Lab, switch: Switch) -> None:
    """Remove what a host needs at its first start, and restore it; print the outcome of its instances."""
    for name, away in AWAY.items():
        lab.boot()
        with away(lab, switch):
            lab.compute.run()
        lab.compute.run()
        alone = lab.look()
        lab.boot()
        with away(lab, switch):
            first = lab.computer.run()
            if first.code == 0:
                lab.compute.run()
        again = lab.computer.run()
        assert again.code == 0, again.out[-4000:] + again.err
        lab.compute.run()
        for row, one, other in zip(lab.rows, alone, lab.look(), strict=True):
            said = Observation(**{**asdict(other), "outcome": f"{first.code}, then {again.code}"})
            tell(f"{name} is away at first: {row.name}", one, said)


def tell(name: str, alone: Observation, both: Observation) -> None:
    """Write a line of JSON."""
    sys.stdout.write(json.dumps({"name": name, "alone": asdict(alone), "both": asdict(both)}) + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def _a_switch(directory: Path) -> Iterator[Switch]:
    folder = directory / "ovs"
    folder.mkdir()
    switch = Switch(folder)
    try:
        switch.start()
        bridge = ("set", "bridge", "br-int", "datapath_type=netdev", "fail_mode=secure")
        switch.vsctl("add-br", "br-int", "--", *bridge)
        yield switch
    finally:
        switch.stop()


@contextlib.contextmanager
def _a_lab(directory: Path, server: Libvirtd, peers: Peers, rows: Sequence[Situation]) -> Iterator[Lab]:
    directory.mkdir()
    lab = Lab(directory, server, peers, rows)
    try:
        yield lab
    finally:
        lab.close()


def main(names: Sequence[str]) -> None:
    """Run both ways every situation, or those that are named."""
    instances, services = (
        [row for row in known if not names or row.name in names] for known in (SITUATIONS, WITH_SERVICES_AWAY)
    )
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="regret-", dir="/tmp")))
        switch = stack.enter_context(_a_switch(directory))
        neutron = stack.enter_context(a_neutron())
        server = Libvirtd(network="ours")
        stack.callback(server.stop)
        # A BIOS takes a fifth of the CPU time of a QEMU that starts, and no row is about what it does.
        (server.directory / "firmware").write_bytes(boot_sectors.firmware(boot_sectors.IGNORES_ACPI))
        server.start()
        peers = Peers(a_nova(programs=with_compute(directory)), neutron, switch.database)
        with _a_lab(directory / "i", server, peers, instances) as lab:
            each_instance(lab)
        with _a_lab(directory / "s", server, peers, services) as lab:
            each_service_away(lab, switch)


if __name__ == "__main__":
    main(sys.argv[1:])
