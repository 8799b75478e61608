"""Records made of the guests that libvirt has."""

import json
from pathlib import Path
from typing import Any

import pytest

from bringup.daemon.decisions.states import PowerState, VmState
from bringup.daemon.storage.record_files.from_guests import records_of
from bringup.drivers.libvirt.domains import DefinedGuest
from support.computer import Computer, a_computer
from support.drivers import driver_guest, uuid_of
from support.libvirt_drivers import emptied_libvirtd
from support.libvirtd import Libvirtd, domain_xml
from support.process import Ended, run
from support.programs import run as make_disk
from support.records import HOST


@pytest.mark.parametrize(
    ("state", "saved", "vm_state"),
    [
        (PowerState.RUNNING, False, VmState.ACTIVE),
        (PowerState.PAUSED, False, VmState.PAUSED),
        (PowerState.SHUTDOWN, False, VmState.STOPPED),
        (PowerState.SHUTDOWN, True, VmState.SUSPENDED),
        (PowerState.CRASHED, False, VmState.STOPPED),
        (PowerState.SUSPENDED, False, VmState.SUSPENDED),
        (PowerState.NOSTATE, False, VmState.STOPPED),
    ],
)
def test_a_record_reports_what_the_guest_is(state: PowerState, vm_state: VmState, *, saved: bool) -> None:
    [record] = records_of([DefinedGuest(uuid_of(1), "one", state, saved=saved)], HOST).instances

    assert (record.uuid, record.name, record.host) == (uuid_of(1), "one", HOST)
    assert (record.vm_state, record.power_state, record.task_state) == (vm_state, state, None)


server = pytest.fixture(emptied_libvirtd)


def on(server: Libvirtd, directory: Path, **sections: Any) -> Computer:
    computer = a_computer(directory)
    del computer.sections["driver"]
    return computer.having(driver={"name": "libvirt"}, libvirt={"uri": server.uri}, **sections)


def imported(computer: Computer, *arguments: str) -> Ended:
    return run("import", *arguments, *computer.arguments)


def test_a_plain_libvirt_host_comes_back_by_its_own_records(tmp_path: Path, server: Libvirtd) -> None:
    computer = on(server, tmp_path, resume={"guests": "on_host_boot"})
    for number in (1, 2):
        server.define(uuid_of(number), driver_guest(number).name)
    with server.connected() as connection:
        runs = connection.lookupByUUIDString(uuid_of(1))
        runs.create()

        done = imported(computer, "--from-libvirt")

        assert (done.code, done.err) == (0, "")
        assert "2 added" in done.out
        assert {uuid: one.vm_state for uuid, one in computer.stored().items()} == {
            uuid_of(1): VmState.ACTIVE,
            uuid_of(2): VmState.STOPPED,
        }
        # The host goes down, and comes back.
        runs.destroy()
        assert computer.run().code == 0
        assert [domain.UUIDString() for domain in connection.listAllDomains() if domain.isActive()] == [uuid_of(1)]


def test_a_guest_that_libvirt_forgets_when_it_stops_is_named_while_it_can_be_kept(
    tmp_path: Path, server: Libvirtd
) -> None:
    computer = on(server, tmp_path)
    server.define(uuid_of(1), driver_guest(1).name)
    with server.connected() as connection:
        connection.createXML(domain_xml(uuid_of(2), driver_guest(2).name, images=server.directory / "images"))

        said = imported(computer, "--from-libvirt")
        document = json.loads(imported(computer, "--from-libvirt", "--json").out)

        assert said.code == 0
        [line] = [line for line in said.out.splitlines() if line.startswith("warning")]
        assert driver_guest(2).name in line
        assert driver_guest(1).name not in line
        assert "virsh define" in line
        assert document["transient"] == [driver_guest(2).name]
        assert computer.stored()[uuid_of(2)].vm_state is VmState.ACTIVE


def test_files_and_guests_are_not_imported_together(tmp_path: Path) -> None:
    computer = a_computer(tmp_path)

    for arguments in ((), ("--from-libvirt", "records.json"), ("--from-libvirt", "--host", "compute-2")):
        ended = imported(computer, *arguments)
        assert ended.code == 64
        assert "cannot import" in ended.err


def test_guests_are_imported_from_libvirt_only_where_it_is_the_hypervisor(tmp_path: Path) -> None:
    ended = imported(a_computer(tmp_path), "--from-libvirt")

    assert ended.code == 78
    assert 'give "libvirt"' in ended.err


def test_a_libvirt_that_is_not_there_is_unavailable(tmp_path: Path, server: Libvirtd) -> None:
    computer = on(server, tmp_path)
    computer.having(libvirt={"uri": f"qemu+unix:///system?socket={tmp_path}/nobody", "reconnect": 0.2})

    ended = imported(computer, "--from-libvirt")

    assert ended.code == 69
    assert "check that libvirtd (or virtqemud) runs" in ended.err


def active(server: Libvirtd) -> set[str]:
    with server.connected() as connection:
        return {domain.UUIDString() for domain in connection.listAllDomains() if domain.isActive()}


def boots(computer: Computer, directory: Path, number: int) -> None:
    """Change the boot: every guest is off."""
    boot = directory / "boot_id"
    boot.write_text(f"{number:08d}-0000-4000-8000-000000000000\n")
    computer.having(host={"boot_id": str(boot)})


def test_a_boot_whose_run_found_no_placement_forgets_no_guest_at_the_next_import(
    tmp_path: Path, server: Libvirtd
) -> None:
    computer = on(server, tmp_path, resume={"guests": "on_host_boot"})
    boots(computer, tmp_path, 1)
    for number in (1, 2):
        server.define(uuid_of(number), driver_guest(number).name)
    with server.connected() as connection:
        connection.lookupByUUIDString(uuid_of(1)).create()
        assert imported(computer, "--from-libvirt").code == 0
        connection.lookupByUUIDString(uuid_of(1)).destroy()
    boots(computer, tmp_path, 2)

    assert computer.run("--set", "placement.url=http://127.0.0.1:1", "--set", "placement.wait=0").code == 69
    again = imported(computer, "--from-libvirt")

    assert (again.code, again.err) == (0, "")
    assert "1 records not overwritten" in again.out
    assert computer.stored()[uuid_of(1)].vm_state is VmState.ACTIVE
    assert computer.run().code == 0
    assert active(server) == {uuid_of(1)}


def test_a_guest_that_could_not_be_started_is_started_at_the_next_boot_though_it_was_imported_meanwhile(
    tmp_path: Path, server: Libvirtd
) -> None:
    computer = on(server, tmp_path, resume={"guests": "on_host_boot", "wait_for_needs": 0})
    boots(computer, tmp_path, 1)
    disk = server.directory / "images/late.qcow2"
    server.define(uuid_of(1), driver_guest(1).name, disk=disk)
    make_disk("qemu-img", "create", "-q", "-f", "qcow2", disk, "1M")
    with server.connected() as connection:
        guest = connection.lookupByUUIDString(uuid_of(1))
        guest.create()
        assert imported(computer, "--from-libvirt").code == 0
        guest.destroy()
    disk.rename(disk.with_suffix(".away"))
    boots(computer, tmp_path, 2)
    assert computer.run().code == 0
    assert active(server) == set()

    assert "1 records not overwritten" in imported(computer, "--from-libvirt").out
    assert computer.run().code == 0
    assert "1 records not overwritten" in imported(computer, "--from-libvirt").out

    boots(computer, tmp_path, 3)
    disk.with_suffix(".away").rename(disk)
    assert computer.run().code == 0
    assert active(server) == {uuid_of(1)}
    disk.unlink()


def test_what_its_administrator_starts_with_virsh_beside_the_daemon_keeps_running(
    tmp_path: Path, server: Libvirtd
) -> None:
    computer = on(server, tmp_path)
    server.define(uuid_of(1), driver_guest(1).name)
    assert imported(computer, "--from-libvirt").code == 0

    with computer.stay() as daemon:
        daemon.until("service.ready")
        with server.connected() as connection:
            connection.lookupByUUIDString(uuid_of(1)).create()
        daemon.until("lifecycle.handled")

    assert computer.stored()[uuid_of(1)].vm_state is VmState.ACTIVE
    assert active(server) == {uuid_of(1)}
