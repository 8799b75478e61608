"""The real command, where something that a guest needs is not there: deferred, shown, waited for, tried again."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.storage.record_files import Records
from bringup.drivers.base import PowerState as Power
from bringup.drivers.needs import MetBy, NeedKind, NeedState
from bringup.drivers.simulated import Fault, Scenario, SimulatedGuest, SimulatedNeed
from support.chaos import World, a_world
from support.polling import until
from support.process import ENVIRONMENT, PATIENCE_S, Ended, run
from support.records import instance, uuid_of

DISK = SimulatedNeed(name="/dev/sdb", why="no such block device")
LATE = replace(DISK, met_after=3.0)
SWITCH = SimulatedNeed(kind=NeedKind.NETWORK, name="br-int", met_by=MetBy.PERSON, state=NeedState.UNVERIFIED)
ONE, TWO = uuid_of(1), uuid_of(2)
RESUME_FAILS = Fault(verb="resume_state_on_host_boot", uuid=ONE, error="DriverError", message="no memory", times=1)


@contextmanager
def world_of(
    directory: Path, *needs: SimulatedNeed, one: Instance | None = None, faults: tuple[Fault, ...] = (), **sections: Any
) -> Iterator[World]:
    """Provide a host that has just booted: guest 1 has needs, guest 2 has none."""
    instances = (one or instance(1), instance(2))
    guests = [SimulatedGuest(uuid=each.uuid, name=each.name, power_state=Power.SHUTDOWN) for each in instances]
    guests[0] = replace(guests[0], needs=needs)
    sections.setdefault("log", {"level": "info"})
    scenario = Scenario(guests=tuple(guests), faults=faults)
    with a_world(directory, Records(instances=instances, migrations=()), scenario, **sections) as world:
        yield world


def command(world: World, name: str, *arguments: str) -> Ended:
    return run(name, *arguments, *world.computer.arguments, env=ENVIRONMENT)


def power(world: World, uuid: str = ONE) -> Power:
    return world.driver.guests[uuid].power_state


def status_client(world: World) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(world.computer.state / "status.sock"))
    return httpx.Client(transport=transport, base_url="http://bringup", timeout=PATIENCE_S)


def test_a_run_that_ends_waits_for_what_comes_and_reports_twice(tmp_path: Path) -> None:
    with world_of(tmp_path, LATE) as world:
        ended = world.computer.run()

        assert ended.code == 0
        assert [event["event"] for event in ended.events if event.get("instance") == ONE and "because" in event] == [
            "instance.deferred",
            "instance.initialized",
        ]
        assert ended.named("run.ended")[0] | {"deferred": 0, "initialized": 2} == ended.named("run.ended")[0]
        assert power(world) is Power.RUNNING
        first, last = world.reports
        told = {each["uuid"]: each for each in first["instances"]}
        assert (told[ONE]["outcome"], told[ONE]["needs"][0]["name"]) == ("deferred", "/dev/sdb")
        assert (first["run_id"], first["counts"]["deferred"]) == (last["run_id"], 1)
        assert (last["counts"]["deferred"], last["complete"]) == (0, True)


def test_a_run_that_ends_leaves_what_does_not_come_and_its_exit_code_is_0(tmp_path: Path) -> None:
    with world_of(tmp_path, DISK, resume={"wait_for_needs": 1}) as world:
        before = world.stored()
        ended = world.computer.run()

        assert (ended.code, ended.outcomes) == (0, {ONE: "deferred", TWO: "initialized"})
        [line] = ended.named("instance.deferred")
        assert line["needs"] == ["disk /dev/sdb is absent (no such block device)"]
        assert "this host may meet it by itself" in line["message"]
        assert (line["level"], line["tried_again"]) == ("warning", True)
        assert world.stored()[0][ONE] == before[0][ONE]
        assert (power(world), power(world, TWO)) == (Power.SHUTDOWN, Power.RUNNING)
        history = command(world, "history", "--run", "last", "--json").events[1:]
        assert [(row["uuid"], row["kind"]) for row in history] == [(ONE, "deferred"), (TWO, "initialized")]
        assert history[0]["needs"][0]["name"] == "/dev/sdb"
        assert "deferred" in command(world, "history").out
        assert "…" in command(world, "plot").out


def test_the_daemon_that_stays_is_ready_at_once_and_reports_what_it_waits_for(tmp_path: Path) -> None:
    with world_of(tmp_path, DISK) as world, world.computer.stay() as daemon:
        daemon.until("instance.deferred", instance=ONE)
        daemon.until("service.ready")
        assert power(world) is Power.SHUTDOWN
        with status_client(world) as client:
            status = client.get("/status").json()
            metrics = client.get("/metrics").text
        shown = command(world, "status")
        [failure] = status["failures"]
        assert (failure["uuid"], failure["outcome"], failure["tried_again"]) == (ONE, "deferred", True)
        assert failure["needs"] == [
            {"kind": "disk", "name": "/dev/sdb", "state": "absent", "met_by": "host", "why": "no such block device"}
        ]
        assert (status["counts"]["deferred"], status["deferred"]["waiting"]) == (1, 1)
        assert 'bringup_run_outcomes{outcome="deferred"} 1.0' in metrics
        assert "1 deferred, checked again in" in shown.out
        assert "disk /dev/sdb is absent" in shown.out


def test_the_daemon_that_stays_starts_what_comes(tmp_path: Path) -> None:
    with world_of(tmp_path, LATE) as world, world.computer.stay() as daemon:
        daemon.until("instance.deferred", instance=ONE)
        daemon.until("service.ready")
        daemon.until("instance.initialized", instance=ONE)
        daemon.until("run.revised", revision=1, deferred=0)
        assert power(world) is Power.RUNNING
        assert command(world, "status", "--json").events[0]["failures"] == []


def test_killed_while_it_waits_the_next_start_comes_to_the_same_end(tmp_path: Path) -> None:
    with world_of(tmp_path, LATE) as world:
        with world.computer.stay() as daemon:
            daemon.until("instance.deferred", instance=ONE)
            daemon.until("service.ready")
            daemon.end(signal.SIGKILL)
        ended = world.computer.run()

        assert (ended.code, power(world)) == (0, Power.RUNNING)
        assert world.driver.done("resume_state_on_host_boot", ONE) == 1


def test_a_plan_and_a_check_say_what_is_missing_and_change_nothing(tmp_path: Path) -> None:
    with world_of(tmp_path, DISK, SWITCH) as world:
        before = world.stored()
        plan = {line["uuid"]: line for line in command(world, "plan", "--json").events}
        text = command(world, "plan").out
        check = {line["check"]: line for line in command(world, "check", "--json").events}

        assert (plan[ONE]["kind"], plan[ONE]["steps"], plan[ONE]["tried_again"]) == ("deferred", [], False)
        assert [need["name"] for need in plan[ONE]["needs"]] == ["/dev/sdb", "br-int"]
        assert (plan[TWO]["kind"], plan[TWO]["needs"]) == ("initialized", [])
        assert "needs: disk /dev/sdb is absent (no such block device)" in text
        assert "1 would be deferred: 1 wait for nova-compute or an operator" in text
        assert (check["needs"]["status"], check["needs"]["deferred"]) == ("warning", 1)
        assert "1 guest would be deferred" in check["needs"]["message"]
        assert world.stored() == before


def test_what_failed_is_tried_again_by_the_running_daemon(tmp_path: Path) -> None:
    with world_of(tmp_path, faults=(RESUME_FAILS,)) as world, world.computer.stay() as daemon:
        daemon.until("instance.failed", instance=ONE)
        daemon.until("service.ready")
        assert world.stored()[0][ONE].vm_state is VmState.ERROR

        told = command(world, "retry", "--json")

        assert (told.code, json.loads(told.out)) == (0, {"retried": [ONE]})
        daemon.until("retry.restored", instance=ONE)
        daemon.until("instance.initialized", instance=ONE)
        daemon.until("run.revised")
        assert (world.stored()[0][ONE].vm_state, power(world)) == (VmState.ACTIVE, Power.RUNNING)
        assert command(world, "retry").out == "no instance failed or is deferred\n"


def test_what_failed_can_be_tried_again_over_the_socket(tmp_path: Path) -> None:
    with world_of(tmp_path, faults=(RESUME_FAILS,)) as world, world.computer.stay() as daemon:
        daemon.until("service.ready")
        with status_client(world) as client:
            refused = client.post("/retry", json={"uuids": [TWO]})
            taken = client.post("/retry", json={"uuids": [ONE]})
        daemon.until("instance.initialized", instance=ONE)

    assert refused.status_code == 409
    assert f"what can be tried again: {ONE}" in refused.json()["error"]
    assert taken.json() == {"retried": [ONE]}


def test_without_a_daemon_the_next_start_tries_it_again(tmp_path: Path) -> None:
    with world_of(tmp_path, faults=(RESUME_FAILS,)) as world:
        assert world.computer.run().outcomes[ONE] == "failed"
        # What a restart alone does: it is in ERROR, and an operator has to decide.
        assert world.computer.run().outcomes[ONE] == "skipped"

        assert command(world, "retry", ONE).code == 0

        assert world.computer.run().outcomes[ONE] == "initialized"
        assert (world.stored()[0][ONE].vm_state, power(world)) == (VmState.ACTIVE, Power.RUNNING)


def test_what_did_not_fail_cannot_be_tried_again(tmp_path: Path) -> None:
    with world_of(tmp_path) as world:
        assert command(world, "retry").out == "no instance failed or is deferred\n"
        world.computer.run()
        refused = command(world, "retry", ONE)
        assert (refused.code, "what can be tried again: none" in refused.err) == (64, True)


@pytest.mark.parametrize("finished_by", ["nova", "bringup", "auto"])
def test_a_deletion_that_owes_ports_and_volumes_is_finished_by_who_the_settings_say(
    tmp_path: Path, finished_by: str
) -> None:
    deleting = instance(1, task_state=TaskState.DELETING)
    with world_of(tmp_path, one=deleting, deletion={"finished_by": finished_by}) as world:
        ended = world.computer.run()

        assert ONE not in world.driver.guests
        assert ONE in world.driver.hypervisor.disks_destroyed
        if finished_by == "nova":
            assert ended.outcomes[ONE] == "deferred"
            assert world.stored()[0][ONE] == deleting
            [line] = ended.named("instance.deferred")
            assert "must be given back by nova-compute" in line["message"]
            assert deleting.network_info[0]["id"] in line["message"]
            # Again changes nothing.
            assert world.computer.run().outcomes[ONE] == "deferred"
        else:
            assert ended.outcomes[ONE] == "initialized"
            assert ONE not in world.stored()[0]


def test_a_deletion_that_owes_nothing_is_finished(tmp_path: Path) -> None:
    deleting = instance(1, task_state=TaskState.DELETING, network_info=(), block_devices=({"boot_index": 0},))
    with world_of(tmp_path, one=deleting, deletion={"finished_by": "nova"}) as world:
        assert world.computer.run().outcomes[ONE] == "initialized"
        assert ONE not in world.stored()[0]


def test_a_deletion_whose_disks_cannot_be_seen_is_not_finished(tmp_path: Path) -> None:
    deleting = instance(1, task_state=TaskState.DELETING, power_state=PowerState.SHUTDOWN)
    fault = Fault(verb="destroy", uuid=ONE, error="NeedNotMet", message="instances_path is not mounted", times=1)
    with world_of(tmp_path, one=deleting, faults=(fault,), resume={"wait_for_needs": 0}) as world:
        ended = world.computer.run()
        assert (ended.code, ended.outcomes[ONE]) == (0, "deferred")
        assert world.stored()[0][ONE] == deleting
        assert world.computer.run().outcomes[ONE] == "initialized"
        assert ONE not in world.stored()[0]


def test_a_pause_keeps_guests_off_outlives_a_kill_is_shown_everywhere_and_is_ended(tmp_path: Path) -> None:
    with world_of(tmp_path) as world:
        said = command(world, "pause", "--for", "1h")
        assert (said.code, "starts are paused for 1 h 0 min, until " in said.out) == (0, True)
        assert command(world, "pause", "--for", "ever").code == 64
        with world.computer.stay() as daemon:
            daemon.until("instance.deferred", instance=TWO)
            daemon.end(signal.SIGKILL)
        with world.computer.stay() as daemon:
            daemon.until("service.ready")
            until(lambda: world.reports, "the report")
            with status_client(world) as client:
                status, ready = client.get("/status").json(), client.get("/readyz")
                metrics = client.get("/metrics").text
                shown = command(world, "status")
                assert (power(world), power(world, TWO)) == (Power.SHUTDOWN, Power.SHUTDOWN)
                assert (status["pause"]["waiting"], status["pause"]["until"][-4:]) == (2, " UTC")
                assert status["headline"].startswith("starts paused until ")
                assert "bringup_starts_paused 1.0" in metrics
                assert "bringup_starts_paused_instances 2.0" in metrics
                # With records of its own nothing follows it that would take the guests for stopped.
                assert ready.status_code == 200
                assert "2 wait; bringup resume ends the pause" in shown.out

                assert len(client.post("/resume", json={}).json()["resumed"]) == 2
                daemon.until("run.resumed")
                daemon.until("run.revised")
                assert (power(world), power(world, TWO)) == (Power.RUNNING, Power.RUNNING)
                assert client.get("/status").json()["pause"] is None
                assert client.post("/pause", json={"for": "soon"}).status_code == 409
                assert len(client.post("/pause", json={"for": "10min"}).json()["paused"]) == 2
            assert command(world, "resume").out == "the pause of starts is over\n"
            assert command(world, "resume", "--json").events == [{"resumed": []}]
        first, last = world.reports[0], world.reports[-1]
        assert (first["counts"]["deferred"], last["counts"]["deferred"], last["complete"]) == (2, 0, True)
        assert first["instances"][0]["needs"][0]["kind"] == "pause"


def test_a_run_that_ends_waits_until_a_pause_is_over_by_itself(tmp_path: Path) -> None:
    with world_of(tmp_path, resume={"wait_for_needs": 0}) as world:
        paused = command(world, "pause", "--for", "4s", "--json").events
        ended = world.computer.run()

        assert len(paused[0]["paused"]) == 2
        assert ended.code == 0
        assert [event["event"] for event in ended.events if event["event"] in ("run.paused", "run.resumed")] == [
            "run.paused",
            "run.resumed",
        ]
        assert (power(world), power(world, TWO)) == (Power.RUNNING, Power.RUNNING)
