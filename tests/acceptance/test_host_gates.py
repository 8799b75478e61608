"""A whole host on which something is away that all guests need: real libvirtd, QEMU, Open vSwitch, and the process."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acceptance.test_libvirt_host import OFF, ON, on_libvirt
from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from support.computer import Computer
from support.drivers import driver_guest
from support.libvirt_drivers import emptied_libvirtd
from support.libvirtd import Libvirtd, the_libvirtd
from support.network import an_ovs_vif
from support.network import run as run_command
from support.open_vswitch import Switch, an_open_vswitch
from support.process import Ended, run
from support.records import instance, migration, uuid_of

NUMBERS = (1, 2, 3)


@pytest.fixture
def server() -> Iterator[Libvirtd]:
    yield from emptied_libvirtd()
    server = the_libvirtd()
    shutil.rmtree(server.directory / "instances", ignore_errors=True)
    (server.directory / "instances").mkdir()


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[Switch]:
    (tmp_path / "ovs").mkdir()
    with an_open_vswitch(tmp_path / "ovs") as running:
        yield running


def check(computer: Computer) -> list[dict[str, Any]]:
    """Return the findings of ``bringup check`` on what guests need together."""
    ended = run("check", "--json", *computer.arguments)
    found = [json.loads(line) for line in ended.out.splitlines()]
    return [each for each in found if each["check"] == "host"]


def states(server: Libvirtd) -> dict[str, int]:
    with server.connected() as connection:
        return {domain.UUIDString(): domain.state()[0] for domain in connection.listAllDomains()}


def refused(ended: Ended, says: str) -> bool:
    assert "Cancelled via" not in ended.err + ended.out
    return ended.code == 69 and says in ended.err and "no instance was touched" in ended.err


def records_in_open_vswitch() -> list[Instance]:
    """Guest 1 runs, 2 is off and ran, 3 is being deleted."""
    vifs = {number: (an_ovs_vif(number, delegate_create=False),) for number in NUMBERS}
    return [
        instance(1, network_info=vifs[1], block_devices=()),
        instance(2, network_info=vifs[2], block_devices=()),
        instance(3, network_info=vifs[3], block_devices=(), task_state=TaskState.DELETING),
    ]


@pytest.mark.parametrize("down", ["switch", "database", "both"])
def test_open_vswitch_that_is_down_is_one_fault_of_the_host(
    tmp_path: Path, server: Libvirtd, switch: Switch, down: str
) -> None:
    switch.vsctl("add-br", "br-int", "--", "set", "Bridge", "br-int", "datapath_type=netdev")
    computer = on_libvirt(tmp_path, server).having(
        network={"plug_vifs": True, "ovsdb": switch.database}, limits={"host_wait": 0}
    )
    computer.records(records_in_open_vswitch())
    for number in NUMBERS:
        server.define(uuid_of(number), driver_guest(number).name)
    with server.connected() as connection:
        connection.lookupByUUIDString(uuid_of(1)).create()
    if down in ("switch", "both"):
        switch.stop_switch()
    if down in ("database", "both"):
        switch.stop_database()
    before = computer.stored(), states(server)
    assert before[1] == {uuid_of(1): ON, uuid_of(2): OFF, uuid_of(3): OFF}

    for _ in range(2):
        assert refused(computer.run(), "Open vSwitch")
        assert (computer.stored(), states(server)) == before
    (finding,) = check(computer)
    assert (finding["status"], finding["exit_code"]) == ("failed", 69)
    assert finding["message"].startswith("a run would touch no instance: Open vSwitch: ")

    if down in ("database", "both"):
        switch.start_database()
    if down in ("switch", "both"):
        switch.start()
    else:
        switch.until_connected()
    assert [(each["status"], each["message"]) for each in check(computer) if each["status"] != "ok"] == []
    ended = computer.run()
    assert (ended.code, set(ended.outcomes.values())) == (0, {"initialized"})
    assert states(server) == {uuid_of(1): ON, uuid_of(2): ON}


def test_a_switch_that_breaks_in_the_middle_defers_the_guests_concerned(
    tmp_path: Path, server: Libvirtd, switch: Switch
) -> None:
    switch.vsctl("add-br", "br-int", "--", "set", "Bridge", "br-int", "datapath_type=netdev")
    computer = on_libvirt(tmp_path, server).having(
        network={"plug_vifs": True, "ovsdb": switch.database, "deadline": 1}, resume={"wait_for_needs": 0}
    )
    # Its VIFs are ours to make in Open vSwitch, so it is spoken to; guest 4 has none.
    records = [instance(number, network_info=(an_ovs_vif(number),), block_devices=()) for number in NUMBERS]
    computer.records([*records, instance(4, network_info=(), block_devices=())])
    for number in (*NUMBERS, 4):
        server.define(uuid_of(number), driver_guest(number).name)
    with server.connected() as connection:
        connection.lookupByUUIDString(uuid_of(1)).create()
    before = computer.stored()

    # It answers that it runs, and carries nothing out.
    with switch.hanging():
        ended = computer.run()

    outcomes = {uuid_of(number): "deferred" for number in NUMBERS} | {uuid_of(4): "initialized"}
    assert ended.outcomes == outcomes
    assert "Cancelled via" not in ended.err + ended.out
    assert {uuid: one for uuid, one in computer.stored().items() if uuid != uuid_of(4)} == {
        uuid: one for uuid, one in before.items() if uuid != uuid_of(4)
    }
    assert states(server) == {uuid_of(1): ON, uuid_of(2): OFF, uuid_of(3): OFF, uuid_of(4): ON}

    assert computer.run().outcomes == {uuid_of(number): "initialized" for number in (*NUMBERS, 4)}
    assert set(states(server).values()) == {ON}


def test_a_host_without_ports_in_open_vswitch_does_not_wait_for_it(tmp_path: Path, server: Libvirtd) -> None:
    computer = on_libvirt(tmp_path, server).having(
        network={"plug_vifs": True, "ovsdb": f"unix:{tmp_path}/away.sock"}, limits={"host_wait": 0}
    )
    computer.records([instance(1, network_info=(), block_devices=())])
    server.define(uuid_of(1), driver_guest(1).name)

    assert check(computer) == []
    ended = computer.run()
    assert (ended.code, ended.outcomes) == (0, {uuid_of(1): "initialized"})


def test_a_folder_of_disks_that_is_away_is_one_fault_of_the_host(tmp_path: Path, server: Libvirtd) -> None:
    folder, elsewhere = server.directory / "instances", server.directory / "elsewhere"
    shared: dict[str, Any] = {"network_info": (), "block_devices": ()}
    computer = on_libvirt(tmp_path, server).having(
        network={"plug_vifs": False}, limits={"host_wait": 0}, resume={"wait_for_needs": 0}
    )
    computer.records(
        [
            instance(1, **shared),
            instance(2, **shared, task_state=TaskState.RESIZE_MIGRATING),
            instance(
                3, **shared, vm_state=VmState.STOPPED, power_state=PowerState.SHUTDOWN, task_state=TaskState.DELETING
            ),
            instance(4, **shared, host="compute-2"),
        ],
        [migration(4)],
    )
    for number in (1, 2, 3, 4):
        name = f"{uuid_of(number)}_resize" if number == 2 else uuid_of(number)
        (folder / name).mkdir()
        run_command("qemu-img", "create", "-q", "-f", "qcow2", str(folder / name / "disk"), "1M")
        server.define(uuid_of(number), driver_guest(number).name, disk=folder / uuid_of(number) / "disk")
    before = computer.stored(), states(server)
    folder.rename(elsewhere)
    try:
        assert refused(computer.run(), "libvirt.instances_path is not there, and 4 guests have their disks below it")
        # A mount point without its mount.
        folder.mkdir()
        assert refused(computer.run(), "it has nothing of the 4 guests whose disks are in it")
        assert [each["status"] for each in check(computer)] == ["failed"]
        folder.rmdir()
    finally:
        if not folder.exists():
            elsewhere.rename(folder)
    assert (computer.stored(), states(server)) == before
    assert {path.name for path in folder.iterdir()} >= {uuid_of(1), f"{uuid_of(2)}_resize", uuid_of(3), uuid_of(4)}

    ended = computer.run()
    assert (ended.code, ended.outcomes) == (0, {uuid_of(number): "initialized" for number in (1, 2, 3, 4)})
    assert not (folder / uuid_of(3)).exists()
    assert not (folder / uuid_of(4)).exists()
    assert (folder / uuid_of(2)).is_dir()
