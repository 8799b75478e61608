"""The real command over boots, restarts and an operator's words: once a boot, quarantine, guards, release."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bringup.daemon.decisions.instances import Instance, Migration
from bringup.daemon.decisions.states import PowerState, TaskState
from bringup.daemon.storage.record_files import Records
from bringup.drivers.base import PowerState as Power
from bringup.drivers.simulated import Fault, Scenario, SimulatedGuest
from support.chaos import World, a_world
from support.process import ENVIRONMENT, Ended, run
from support.records import instance, migration, uuid_of


@contextmanager
def world_of(
    directory: Path,
    instances: Sequence[Instance],
    *faults: Fault,
    migrations: Sequence[Migration] = (),
    **sections: dict[str, Any],
) -> Iterator[World]:
    """Provide a host that has just booted: its guests are off."""
    guests = tuple(SimulatedGuest(uuid=one.uuid, name=one.name, power_state=Power.SHUTDOWN) for one in instances)
    records = Records(instances=tuple(instances), migrations=tuple(migrations))
    sections.setdefault("log", {"level": "info"})
    with a_world(directory, records, Scenario(guests=guests, faults=faults), **sections) as world:
        yield world


def started(world: World, *arguments: str) -> Ended:
    return world.computer.run(*arguments)


def command(world: World, name: str, *arguments: str) -> Ended:
    return run(name, *arguments, *world.computer.arguments, env=ENVIRONMENT)


def power(world: World, number: int) -> Power:
    return world.driver.guests[uuid_of(number)].power_state


def because(ended: Ended, number: int) -> list[str]:
    [line] = [event for event in ended.events if event.get("instance") == uuid_of(number) and "because" in event]
    found: list[str] = line["because"]
    return found


def test_a_guest_that_its_user_has_stopped_stays_down_until_the_host_boots(tmp_path: Path) -> None:
    with world_of(tmp_path, [instance(1), instance(2)]) as world:
        assert started(world).code == 0
        assert (power(world, 1), power(world, 2)) == (Power.RUNNING, Power.RUNNING)
        world.driver.guest_stops_itself(uuid_of(1))

        again = started(world)
        assert because(again, 1) == ["vifs", "resumed_on_boot_only"]
        assert power(world, 1) is Power.SHUTDOWN

        world.cut_power(2)
        booted = started(world)
        assert because(booted, 1) == ["vifs", "ran_before"]
        assert world.driver.done("resume_state_on_host_boot", uuid_of(2)) == 2


def test_on_every_start_brings_it_back_each_time_as_nova_does(tmp_path: Path) -> None:
    with world_of(tmp_path, [instance(1)], resume={"guests": "on_every_start"}) as world:
        started(world)
        world.driver.guest_stops_itself(uuid_of(1))
        started(world)
        assert power(world, 1) is Power.RUNNING


def test_what_a_killed_run_has_brought_back_and_its_user_has_stopped_stays_down(tmp_path: Path) -> None:
    hangs = Fault(verb="plug_vifs", uuid=uuid_of(2), hang=True, times=1)
    with world_of(tmp_path, [instance(1), instance(2)], hangs) as world:
        with world.computer.stay() as killed:
            killed.until("instance.initialized", instance=uuid_of(1))
            killed.process.kill()
            killed.end()
        world.driver.guest_stops_itself(uuid_of(1))

        ended = started(world)

        assert ended.named("run.continued")[0]["settled"] == 1
        assert (power(world, 1), power(world, 2)) == (Power.SHUTDOWN, Power.RUNNING)


def test_an_instance_may_keep_itself_down(tmp_path: Path) -> None:
    with world_of(tmp_path, [instance(1, metadata={"bringup:resume": "never"}), instance(2)]) as world:
        assert because(started(world), 1) == ["vifs", "resume_not_wanted"]
        assert (power(world, 1), power(world, 2)) == (Power.SHUTDOWN, Power.RUNNING)


def test_a_host_that_cannot_tell_how_long_it_was_away_brings_nothing_back_where_that_matters(tmp_path: Path) -> None:
    with world_of(tmp_path, [instance(1)], resume={"guests": "on_host_boot", "max_downtime": "5min"}) as world:
        assert because(started(world), 1) == ["vifs", "resume_not_known"]
        world.cut_power(2)
        assert because(started(world), 1) == ["vifs", "ran_before"]


def test_an_instance_on_which_the_host_died_twice_is_held_until_it_is_released(tmp_path: Path) -> None:
    kills = Fault(verb="resume_state_on_host_boot", uuid=uuid_of(1), hang=True, times=2)
    with world_of(tmp_path, [instance(1), instance(2)], kills) as world:
        for boot in (2, 3):
            with world.computer.stay() as daemon:
                daemon.until("instance.initialized", instance=uuid_of(2))
                daemon.process.kill()
                daemon.end()
            world.cut_power(boot)

        held = started(world)
        assert held.code == 0
        assert held.outcomes == {uuid_of(1): "held", uuid_of(2): "initialized"}
        assert because(held, 1) == ["quarantined"]
        assert power(world, 1) is Power.SHUTDOWN
        assert [one["outcome"] for one in world.reports[-1]["instances"]].count("held") == 1

        assert command(world, "release", uuid_of(1)).code == 0
        assert because(started(world), 1) == ["vifs", "ran_before"]
        assert power(world, 1) is Power.RUNNING
        world.cut_power(9)
        assert started(world).outcomes == {uuid_of(1): "initialized", uuid_of(2): "initialized"}
        assert power(world, 1) is Power.RUNNING


@pytest.mark.parametrize("single", [False, True], ids=["all", "one"])
def test_too_many_destroys_wait_for_approval_and_continue_in_the_running_daemon(
    tmp_path: Path, *, single: bool
) -> None:
    gone = [instance(number, host="compute-2") for number in (1, 2, 3)]
    migrations = [migration(number) for number in (1, 2, 3)]
    limits = {"destroy_freely": 0, "destroy_at_most": 10, "destroy_share": 0.5}
    with (
        world_of(tmp_path, [*gone, instance(4)], migrations=migrations, guards=limits) as world,
        world.computer.stay() as daemon,
    ):
        held = [daemon.until("instance.held") for _ in gone]
        assert {line["error"] for line in held} == {"Held"}
        assert "3 guests were to be destroyed, of 4" in held[0]["message"]
        assert "bringup release" in held[0]["message"]
        daemon.until("instance.initialized", instance=uuid_of(4))
        daemon.until("service.ready")
        assert world.driver.done("destroy", uuid_of(1)) == 0
        shown = command(world, "history", "--run", "last", "--json").events
        assert [line["kind"] for line in shown[1:]] == ["held", "held", "held", "initialized"]

        assert command(world, "release", *([uuid_of(1)] if single else [])).code == 0

        for _ in [1] if single else gone:
            daemon.until("instance.initialized")
        assert world.driver.done("destroy", uuid_of(1)) == 1
        assert world.driver.done("destroy", uuid_of(2)) == (0 if single else 1)
        [line] = command(world, "history", "--instance", uuid_of(1), "--json").events
        assert [action["verb"] for action in line["actions"]] == ["destroy_evacuated", "save_migration"]
        assert [line["uuid"] for line in command(world, "history", "--kept", "--json").events] == (
            [uuid_of(1)] if single else [uuid_of(number) for number in (1, 2, 3)]
        )


def test_what_is_not_held_cannot_be_released(tmp_path: Path) -> None:
    with world_of(tmp_path, [instance(1)]) as world:
        assert command(world, "release").out == "no instance is held\n"
        started(world)
        refused = command(world, "release", uuid_of(1))
        assert (refused.code, "held are: none" in refused.err) == (64, True)


def test_a_second_daemon_for_the_same_host_and_records_is_refused(tmp_path: Path) -> None:
    with world_of(tmp_path, [instance(1)]) as world, world.computer.stay() as daemon:
        daemon.until("service.ready")
        other = world.computer.having(
            host={"state_directory": str(tmp_path / "other")}, store={"url": f"sqlite:///{world.computer.store}"}
        )
        refused = run("run", "--once", *other.arguments, env=ENVIRONMENT)
        assert refused.code == 75
        assert "another daemon works for host compute-1" in refused.err


def test_disks_of_a_destroyed_guest_are_set_aside_for_a_while(tmp_path: Path) -> None:
    gone = instance(1, host="compute-2")
    keep = {"shared_storage": "local", "keep_disks_for": 3600}
    with world_of(tmp_path, [gone, instance(2)], migrations=[migration(1)], evacuated=keep) as world:
        started(world)
        assert world.driver.hypervisor.disks_set_aside == {uuid_of(1)}
        assert uuid_of(1) not in world.driver.guests
        assert world.kept_disks() == {uuid_of(1): [f"simulated/{uuid_of(1)}/kept"]}


def test_a_run_that_was_stopped_continues_and_tells_all_of_it(tmp_path: Path) -> None:
    hangs = Fault(verb="plug_vifs", uuid=uuid_of(2), hang=True, times=1)
    reboots = instance(1, task_state=TaskState.REBOOT_STARTED_HARD, power_state=PowerState.SHUTDOWN)
    with world_of(tmp_path, [reboots, instance(2)], hangs) as world:
        with world.computer.stay() as stopped:
            stopped.until("instance.initialized", instance=uuid_of(1))
            stopped.process.terminate()
            assert stopped.end().code == 0
        assert started(world).code == 0

        assert world.driver.done("reboot", uuid_of(1)) == 1
        first, last = world.reports
        assert (first["unfinished"], last["unfinished"]) == ([uuid_of(2)], [])
        assert first["run_id"] == last["run_id"]
        assert [one["uuid"] for one in last["instances"]] == [uuid_of(1), uuid_of(2)]


def test_a_plan_reports_what_the_guards_hold_and_what_is_not_brought_back_again(tmp_path: Path) -> None:
    gone = [instance(number, host="compute-2") for number in (1, 2, 3)]
    migrations = [migration(number) for number in (1, 2, 3)]
    limits = {"destroy_freely": 0, "destroy_at_most": 2}
    with world_of(tmp_path, [*gone, instance(4)], migrations=migrations, guards=limits) as world:
        plan = {line["uuid"]: line for line in command(world, "plan", "--json").events}
        assert [plan[uuid_of(number)]["because"] for number in (1, 4)] == [["destruction_held"], ["vifs", "ran_before"]]
        assert plan[uuid_of(1)]["kind"] == "held"

        started(world)
        world.driver.guest_stops_itself(uuid_of(4))
        again = {line["uuid"]: line for line in command(world, "plan", "--json").events}
        assert again[uuid_of(4)]["because"] == ["vifs", "resumed_on_boot_only"]
        command(world, "release")
        released = {line["uuid"]: line for line in command(world, "plan", "--json").events}
        assert released[uuid_of(1)]["because"] == ["evacuated"]


def test_disks_whose_time_has_come_are_deleted_by_the_next_start(tmp_path: Path) -> None:
    gone = instance(1, host="compute-2")
    keep = {"shared_storage": "local", "keep_disks_for": 0.001}
    with world_of(tmp_path, [gone, instance(2)], migrations=[migration(1)], evacuated=keep) as world:
        started(world)
        started(world)
        assert world.kept_disks() == {}
        assert world.driver.hypervisor.disks_destroyed == {uuid_of(1)}
