"""No room on a disk of a host of real guests: who needs it waits for it and says so, and loses nothing by it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acceptance.test_libvirt_host import FROZEN, OFF, ON, PAUSED, STOPPED, on_libvirt, record_of
from bringup.daemon.decisions.states import VmState
from bringup.drivers.libvirt.binding import binding
from support.drivers import driver_guest
from support.libvirtd import DomainExtras, Libvirtd, a_libvirtd
from support.programs import run
from support.records import uuid_of

PLAIN, SAVED, SCRATCH, FIRMWARE, RUNS, IS_PAUSED, STAYS_OFF = range(1, 8)
RECORDS: dict[int, dict[str, Any]] = {
    IS_PAUSED: {"vm_state": VmState.PAUSED, "power_state": PAUSED},
    STAYS_OFF: STOPPED,
}
COME_BACK = dict.fromkeys((PLAIN, SAVED, SCRATCH, FIRMWARE, RUNS), ON) | {IS_PAUSED: FROZEN, STAYS_OFF: OFF}
BIOS = "/usr/share/seabios/bios-256k.bin"
"""Of a package that QEMU needs; here it stands for a firmware that keeps variables."""


def make_guests(server: Libvirtd) -> None:
    """Make the guests; a start of two of them writes a file beside their disk."""
    for number in (SCRATCH, FIRMWARE):
        (server.within("instances") / uuid_of(number)).mkdir()
        # The small disk is mounted for libvirt alone; bringup sees the folder below it.
        (server.directory / "instances" / uuid_of(number)).mkdir(parents=True, exist_ok=True)
    run("qemu-img", "create", "-q", "-f", "qcow2", server.within("instances") / uuid_of(SCRATCH) / "disk", "1M")
    template = server.directory / "images/variables"
    template.write_bytes(b"\xff" * 0x20000)
    instances = server.directory / "instances"
    more = {
        SCRATCH: DomainExtras(
            devices=f"""<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
              <source file='{instances}/{uuid_of(SCRATCH)}/disk'/><target dev='hda' bus='ide'/><transient/></disk>"""
        ),
        FIRMWARE: DomainExtras(
            os=f"""<loader readonly='yes' type='pflash'>{BIOS}</loader>
              <nvram template='{template}'>{instances}/{uuid_of(FIRMWARE)}/nvram</nvram>"""
        ),
    }
    for number in COME_BACK:
        server.define(uuid_of(number), driver_guest(number).name, more=more.get(number))
    with server.connected() as connection:
        for number in (SAVED, RUNS, IS_PAUSED):
            connection.lookupByUUIDString(uuid_of(number)).create()
        connection.lookupByUUIDString(uuid_of(SAVED)).managedSave()
        connection.lookupByUUIDString(uuid_of(IS_PAUSED)).suspend()


def of_each(server: Libvirtd, look: Callable[[Any], Any]) -> dict[int, Any]:
    """Return each guest that libvirt has, by number."""
    numbers = {uuid_of(number): number for number in COME_BACK}
    with server.connected() as connection:
        return {numbers[domain.UUIDString()]: look(domain) for domain in connection.listAllDomains()}


def definitions(server: Libvirtd) -> dict[int, str]:
    flags = binding().VIR_DOMAIN_XML_INACTIVE
    return of_each(server, lambda domain: domain.XMLDesc(flags))


def files(server: Libvirtd) -> dict[Path, bytes]:
    """Read what guests have on the small disks: managed save images, and all that is beside their disks."""
    found = [*server.within("lib/qemu/save").iterdir(), *server.within("instances").glob("*/*")]
    return {path: path.read_bytes() for path in found}


@pytest.mark.parametrize(
    ("disk", "lacking"),
    [("instances", {SCRATCH, FIRMWARE}), ("lib", {PLAIN, SAVED, SCRATCH, FIRMWARE})],
    ids=["of the instances", "of libvirt's state"],
)
def test_on_a_full_disk_who_needs_room_is_deferred_and_comes_back_when_there_is_some(
    tmp_path: Path, disk: str, lacking: set[int]
) -> None:
    with a_libvirtd(small=("lib", "instances")) as server:
        make_guests(server)
        records = {number: record_of(number, **RECORDS.get(number, {})) for number in COME_BACK}
        computer = on_libvirt(tmp_path, server).records(list(records.values()))
        kept, defined = files(server), definitions(server)
        assert len(kept) == 2

        with server.full(disk):
            ended = computer.run()

            assert (ended.code, ended.err) == (0, "")
            assert {number for number in COME_BACK if ended.outcomes[uuid_of(number)] == "deferred"} == lacking
            assert of_each(server, lambda domain: domain.state()[0]) == COME_BACK | dict.fromkeys(lacking, OFF)
            still = files(server)
            assert definitions(server) == defined
        for line in ended.named("instance.deferred"):
            assert line["error"] == "NeedNotMet"
            assert line["message"].startswith(f"cannot start {line['instance']}: ")
            assert "is full or failing" in line["message"]
        assert "Traceback" not in ended.out
        assert {path for path in kept if still.get(path) != kept[path]} == (
            set() if SAVED in lacking else {path for path in kept if path.suffix == ".save"}
        )

        # Their records are as they were: room is all that they lack.
        again = computer.run()

        assert (again.code, again.err, set(again.outcomes.values())) == (0, "", {"initialized"})
        assert of_each(server, lambda domain: domain.state()[0]) == COME_BACK
        assert of_each(server, lambda domain: domain.state()[1])[SAVED] == binding().VIR_DOMAIN_RUNNING_RESTORED
