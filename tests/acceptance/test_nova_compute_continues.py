"""What bringup defers, the real nova-compute that is started after it does: the record is as it was."""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bringup.drivers.base import PowerState
from bringup.drivers.needs import MetBy, NeedKind, NeedState
from bringup.drivers.simulated import SimulatedDriver, SimulatedGuest, SimulatedNeed
from support.nova import Nova, the_nova
from support.openstack import CloudHost, a_cloud_host
from support.process import run
from support.service_manager import Manager

pytestmark = pytest.mark.timeout(300)
RESUMED = "resume_guests_state_on_host_boot = true"
VOLUME = SimulatedNeed(
    name="/dev/dm-3", state=NeedState.UNVERIFIED, met_by=MetBy.NOVA, why="a name that may be any disk's"
)
VIF = {
    "id": "5036bff2-369e-4ac1-b8a2-2023f7ec3837",
    "address": "fa:16:3e:00:00:00",
    "type": "ovs",
    "devname": "tap5036",
}
# What was cut short, what nova-compute does about it, and how it ends.
DEFERRED: dict[str, tuple[dict[str, Any], str]] = {
    "ran before": ({}, "resume_state_on_host_boot"),
    "hard reboot": ({"task_state": "reboot_started_hard"}, "reboot"),
    "start": ({"vm_state": "stopped", "task_state": "powering-on", "power_state": 4}, "power_on"),
    "snapshot": ({"task_state": "image_uploading"}, "resume_state_on_host_boot"),
    "without a definition": ({}, "resume_state_on_host_boot"),
}
STATES = ("host", "vm_state", "task_state", "power_state", "deleted")


@pytest.fixture
def nova() -> Nova:
    return the_nova()


def a_first_stage(nova: Nova, directory: Path) -> CloudHost:
    return a_cloud_host(nova, directory, service={"after_init": "stop"}, resume={"guests": "on_every_start"})


def powers(host: CloudHost) -> dict[str, int]:
    directory = host.computer.directory
    driver = SimulatedDriver.from_file(directory / "scenario.json", state_path=directory / "guests.sqlite")
    return {uuid: int(guest.power_state.value) for uuid, guest in driver.guests.items()}


def states(nova: Nova, uuid: str) -> dict[str, Any]:
    return {name: nova.read([uuid])[uuid][name] for name in STATES}


def test_a_host_is_not_ready_for_a_nova_compute_before_a_pause_is_over(nova: Nova, tmp_path: Path) -> None:
    host = a_cloud_host(nova, tmp_path, resume={"guests": "on_every_start"})
    made = host.instance(0)
    nova.make(made)
    host.guests([SimulatedGuest(uuid=made["uuid"], power_state=PowerState.SHUTDOWN)])
    before = states(nova, made["uuid"])
    host.computer.state.mkdir()
    assert run("pause", "--for", "1h", *host.computer.arguments).code == 0
    with (
        contextlib.closing(Manager(tmp_path / "notify")) as manager,
        host.computer.stay(env=manager.environment) as daemon,
    ):
        manager.until("STATUS=starts paused until ")
        daemon.until("instance.deferred", instance=made["uuid"])
        assert states(nova, made["uuid"]) == before
        assert run("resume", *host.computer.arguments).code == 0
        manager.until("READY=1")
        # It was started before that, on its record.
        assert powers(host) == {made["uuid"]: 1}


def test_what_was_deferred_is_started_by_nova_compute(nova: Nova, tmp_path: Path) -> None:
    host = a_first_stage(nova, tmp_path)
    made = {name: host.instance(number, **columns) for number, (name, (columns, _)) in enumerate(DEFERRED.items())}
    nova.make(*made.values())
    off = PowerState.SHUTDOWN
    host.guests(
        [
            SimulatedGuest(uuid=one["uuid"], name=name, power_state=off, needs=(replace(VOLUME, kind=kind),))
            for (name, one), kind in zip(made.items(), NeedKind, strict=False)
            if name != "without a definition"
        ]
    )
    before = {name: states(nova, one["uuid"]) for name, one in made.items()}

    ended = host.computer.run()

    assert ended.code == 0, ended.out[-5000:] + ended.err
    assert set(ended.outcomes.values()) == {"deferred"}
    # Not one column of one record.
    assert {name: states(nova, one["uuid"]) for name, one in made.items()} == before

    # What Nova makes again before it starts a guest; here its hypervisor has it already.
    found = {**powers(host), made["without a definition"]["uuid"]: 4}
    started = nova.start_compute(host.name, host.node, found, default=RESUMED)

    assert started.error is None, started.error
    done = {(verb, uuid) for verb, uuid in started.verbs if verb not in ("get_info", "plug_vifs")}
    assert {(verb, made[name]["uuid"]) for name, (_, verb) in DEFERRED.items()} <= done
    assert set(started.guests.values()) == {1}
    for one in made.values():
        assert states(nova, one["uuid"]) | {"vm_state": "active", "task_state": None} == states(nova, one["uuid"])


def test_a_deletion_that_owes_ports_is_finished_by_nova_compute(nova: Nova, tmp_path: Path) -> None:
    host = a_first_stage(nova, tmp_path)
    owing = host.instance(1, task_state="deleting", network_info=[VIF])
    owing_nothing = host.instance(2, task_state="deleting")
    nova.make(owing, owing_nothing)
    host.guests(
        [SimulatedGuest(uuid=one["uuid"], name="x", power_state=PowerState.SHUTDOWN) for one in (owing, owing_nothing)]
    )

    ended = host.computer.run()

    assert ended.code == 0, ended.out[-5000:] + ended.err
    assert ended.outcomes == {owing["uuid"]: "deferred", owing_nothing["uuid"]: "initialized"}
    assert powers(host) == {}
    assert states(nova, owing["uuid"]) | {"task_state": "deleting", "deleted": False} == states(nova, owing["uuid"])
    assert states(nova, owing_nothing["uuid"])["deleted"] is True

    started = nova.start_compute(host.name, host.node, powers(host), default=RESUMED)

    assert started.error is None, started.error
    assert started.ports_given_back == [owing["uuid"]]
    assert states(nova, owing["uuid"])["deleted"] is True
