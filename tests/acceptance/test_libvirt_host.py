"""A whole host of real guests: ``bringup run`` in a process of its own, real libvirtd, QEMU and Placement."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bringup.daemon.decisions.instances import Instance, Migration
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from support.computer import Computer, a_computer
from support.drivers import driver_guest
from support.libvirt_drivers import emptied_libvirtd
from support.libvirtd import Libvirtd, a_libvirtd
from support.polling import until
from support.process import run, running
from support.records import instance, migration, uuid_of

RUNNING, PAUSED, SHUTDOWN = PowerState.RUNNING, PowerState.PAUSED, PowerState.SHUTDOWN
# virDomainState, as libvirt says it.
ON, FROZEN, OFF, CRASHED, ASLEEP, GONE = 1, 3, 5, 6, 7, None


@dataclass(frozen=True)
class Case:
    """A guest as the run finds it, its record, and what is to come of both."""

    found: str
    record: dict[str, Any] = field(default_factory=dict)
    outcome: str = "initialized"
    becomes: int | None = ON
    vm_state: VmState | None = VmState.ACTIVE
    guest: str = "halt"
    same_life: bool = False
    migrations: tuple[Migration, ...] = ()


STOPPED = {"vm_state": VmState.STOPPED, "power_state": SHUTDOWN}
CASES: tuple[Case, ...] = (
    *[Case("off")] * 9,
    *[Case("on", same_life=True)] * 4,
    *[Case("off", STOPPED, becomes=OFF, vm_state=VmState.STOPPED)] * 3,
    *[
        Case(
            "paused",
            {"vm_state": VmState.PAUSED, "power_state": PAUSED},
            becomes=FROZEN,
            vm_state=VmState.PAUSED,
            same_life=True,
        )
    ]
    * 2,
    Case(
        "paused", {"vm_state": VmState.PAUSED, "power_state": PAUSED, "task_state": TaskState.UNPAUSING}, same_life=True
    ),
    Case("on", {"task_state": TaskState.POWERING_OFF}, becomes=OFF, vm_state=VmState.STOPPED, guest="acpi"),
    Case("on", {"task_state": TaskState.POWERING_OFF}, becomes=OFF, vm_state=VmState.STOPPED),
    Case("off", STOPPED | {"task_state": TaskState.POWERING_ON}),
    Case("on", {"task_state": TaskState.REBOOT_PENDING_HARD}),
    Case("off", {"task_state": TaskState.REBOOT_PENDING_HARD}),
    Case("off", STOPPED | {"task_state": TaskState.DELETING}, becomes=GONE, vm_state=None),
    Case("gone", outcome="deferred", becomes=GONE),
    Case("broken", outcome="deferred", becomes=OFF),
    Case("saved"),
    Case("on", {"host": "compute-2"}, becomes=GONE),
    Case(
        "on",
        {"vm_state": VmState.SUSPENDED, "power_state": PowerState.SUSPENDED},
        becomes=ASLEEP,
        vm_state=VmState.SUSPENDED,
        guest="sleep",
        same_life=True,
    ),
)


def on_libvirt(directory: Path, server: Libvirtd, **libvirt: Any) -> Computer:
    """Make a host whose hypervisor is a libvirtd."""
    computer = a_computer(directory)
    del computer.sections["driver"]
    return computer.having(
        driver={"name": "libvirt"},
        libvirt={"uri": server.uri, "instances_path": str(server.directory / "instances"), **libvirt},
        resume={"guests": "on_host_boot", "wait_for_needs": 0},
        limits={"concurrency": 4, "instance_deadline": 110, "host_deadline": 60, "shutdown_report_deadline": 10},
        evacuated={"shared_storage": "local"},
        guards={"destroy_share": 1.0},
    )


def record_of(number: int, **fields: Any) -> Instance:
    return instance(number, network_info=(), block_devices=(), **fields)


server = pytest.fixture(emptied_libvirtd)


def make_guest(server: Libvirtd, connection: Any, number: int, case: Case) -> None:
    """Make the guest of a case."""
    if case.found == "gone":
        return
    disk = Path("/nonexistent/disk.qcow2") if case.found == "broken" else None
    server.define(uuid_of(number), driver_guest(number).name, guest=case.guest, disk=disk)
    domain = connection.lookupByUUIDString(uuid_of(number))
    if case.found in ("on", "paused", "saved"):
        domain.create()
    if case.found == "paused":
        domain.suspend()
    if case.found == "saved":
        domain.managedSave()
    if case.guest in ("panic", "sleep"):
        until(lambda: domain.state()[0] in (CRASHED, ASLEEP), f"the end of {case.guest}")


def test_thirty_guests_in_mixed_states_come_back(tmp_path: Path, server: Libvirtd) -> None:
    assert len(CASES) == 30
    cases = dict(enumerate(CASES, start=1))
    elsewhere = [number for number, case in cases.items() if case.record.get("host")]
    computer = on_libvirt(tmp_path, server).records(
        [record_of(number, **case.record) for number, case in cases.items()],
        [migration(number) for number in elsewhere],
    )
    with server.connected() as connection:
        for number, case in cases.items():
            make_guest(server, connection, number, case)
        lives = {domain.UUIDString(): domain.ID() for domain in connection.listAllDomains()}

        ended = computer.run()

        assert (ended.code, ended.err) == (0, "")
        assert ended.outcomes == {uuid_of(number): case.outcome for number, case in cases.items()}
        states = {domain.UUIDString(): domain.state()[0] for domain in connection.listAllDomains()}
        now = {domain.UUIDString(): domain.ID() for domain in connection.listAllDomains()}
    assert states == {uuid_of(number): case.becomes for number, case in cases.items() if case.becomes is not GONE}
    # A guest that is off has no life: -1.
    same = {number for number in cases if lives.get(uuid_of(number)) == now.get(uuid_of(number), -1) != -1}
    assert same == {number for number, case in cases.items() if case.same_life}
    stored = computer.stored()
    kept = {number: case for number, case in cases.items() if case.vm_state is not None and number not in elsewhere}
    assert {number: stored[uuid_of(number)].vm_state for number in kept} == {
        number: case.vm_state for number, case in kept.items()
    }
    assert all(stored[uuid_of(number)].task_state is None for number in kept)
    deferred = {event["instance"]: event for event in ended.named("instance.deferred")}
    for number, case in cases.items():
        if case.outcome == "deferred":
            what = "definition" if case.found == "gone" else "/nonexistent/disk.qcow2"
            assert what in json.dumps(deferred[uuid_of(number)])


def test_libvirtd_that_is_killed_in_the_middle_costs_no_guest(tmp_path: Path) -> None:
    count = 12
    with a_libvirtd(pause_s=0.2) as server:
        computer = on_libvirt(tmp_path, server).records([record_of(number) for number in range(1, count + 1)])
        for number in range(1, count + 1):
            server.define(uuid_of(number), driver_guest(number).name)
        with running("run", "--once", "--json", *computer.arguments) as process:
            server.until_start_hangs(driver_guest(3).name)
            server.kill()
            server.start_again()
            ended = process.end()

        assert (ended.code, ended.err) == (0, "")
        assert set(ended.outcomes.values()) == {"initialized"}
        assert len(ended.outcomes) == count
        with server.connected() as connection:
            assert {domain.state()[0] for domain in connection.listAllDomains()} == {ON}


def test_what_a_guest_does_after_the_run_reaches_its_record(tmp_path: Path, server: Libvirtd) -> None:
    computer = on_libvirt(tmp_path, server).records([record_of(1)])
    server.define(uuid_of(1), driver_guest(1).name)
    with computer.stay() as process, server.connected() as connection:
        process.until("service.ready")
        domain = connection.lookupByUUIDString(uuid_of(1))
        domain.suspend()
        process.until("lifecycle.handled", transition="paused", instance=uuid_of(1))
        assert computer.stored()[uuid_of(1)].power_state is PAUSED
        domain.resume()
        process.until("lifecycle.handled", transition="resumed", instance=uuid_of(1))
        assert computer.stored()[uuid_of(1)].power_state is RUNNING
        # Somebody pulls the plug: held back, for it might have been a reboot.
        domain.destroy()
        process.until("lifecycle.handled", transition="stopped", instance=uuid_of(1))
        assert computer.stored()[uuid_of(1)].vm_state is VmState.STOPPED


def test_a_guest_that_crashes_again_as_soon_as_it_was_started_becomes_stopped(tmp_path: Path, server: Libvirtd) -> None:
    computer = on_libvirt(tmp_path, server).records([record_of(1)])
    with server.connected() as connection:
        make_guest(server, connection, 1, Case("on", guest="panic"))
        domain = connection.lookupByUUIDString(uuid_of(1))
        with computer.stay() as process:
            process.until("instance.initialized", instance=uuid_of(1))
            process.until("lifecycle.handled", transition="crashed", instance=uuid_of(1))
        assert domain.state()[0] == OFF

    stored = computer.stored()[uuid_of(1)]
    assert (stored.vm_state, stored.task_state, stored.power_state) == (VmState.STOPPED, None, SHUTDOWN)


def test_autostart_conflicts_are_found_by_check_and_refused_by_run(tmp_path: Path, server: Libvirtd) -> None:
    computer = on_libvirt(tmp_path, server).records([record_of(1)])
    server.define(uuid_of(1), driver_guest(1).name)
    with server.connected() as connection:
        connection.lookupByUUIDString(uuid_of(1)).setAutostart(1)

    checked = run("check", "--json", *computer.arguments)
    refused = computer.run()

    [finding] = [event for event in map(json.loads, checked.out.splitlines()) if event["check"] == "libvirt"]
    assert (checked.code, finding["status"]) == (77, "failed")
    assert driver_guest(1).name in finding["message"]
    assert refused.code == 77
    assert "two programs would start the same guests" in refused.err
    assert refused.outcomes == {}


@pytest.mark.parametrize(
    ("settings", "concurrency", "word"),
    [({}, 21, "max_workers"), ({"connections": 2}, 3, "libvirt.connections"), ({}, 4, "no other autostart mechanism")],
)
def test_check_reports_what_is_too_narrow(
    tmp_path: Path, server: Libvirtd, settings: dict[str, Any], concurrency: int, word: str
) -> None:
    computer = on_libvirt(tmp_path, server, daemon_config=str(server.config), **settings)
    computer.having(limits={"concurrency": concurrency})

    checked = run("check", "--json", *computer.arguments)

    [finding] = [event for event in map(json.loads, checked.out.splitlines()) if event["check"] == "libvirt"]
    assert word in finding["message"]
    assert finding["status"] == ("ok" if word == "no other autostart mechanism" else "warning")
