"""The real command over records as hosts have them: rows that never ended, two names, what is not here any more."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bringup.daemon.storage.record_files import read_records
from bringup.drivers.base import PowerState
from bringup.drivers.simulated import read_scenario
from support.chaos import World, a_world
from support.process import ENVIRONMENT, Ended, run

DATA = Path(__file__).parents[1] / "data/records-and-rows"
HV = "hv-12"


@contextmanager
def the_host(directory: Path, name: str, **sections: dict[str, Any]) -> Iterator[World]:
    """Provide the host of some files."""
    records = read_records(DATA / f"{name}.records.json", host=None)
    scenario = read_scenario(DATA / f"{name}.scenario.json")
    sections = {"host": {"name": HV, "boot_id": str(directory / "boot_id")}, "log": {"level": "info"}, **sections}
    sections.setdefault("placement", {"create_resource_provider": True})
    with a_world(directory, records, scenario, **sections) as world:
        yield world


def uuid_of(group: int, number: int) -> str:
    return f"{group:08x}-0000-4000-8000-{number:012d}"


def because(ended: Ended) -> dict[int, str]:
    """Return the last rule of each instance, by its number."""
    return {
        int(event["instance"][-12:]): event["because"][-1]
        for event in ended.events
        if "because" in event and "instance" in event
    }


def messages(ended: Ended) -> dict[int, str]:
    """Return what a person should know of each instance."""
    return {int(e["instance"][-12:]): e["message"] for e in ended.events if "message" in e and "instance" in e}


def powers(world: World) -> dict[int, PowerState]:
    return {int(uuid[-12:]): guest.power_state for uuid, guest in world.driver.guests.items()}


def planned(world: World, *arguments: str) -> Ended:
    return run("plan", "--json", *world.computer.arguments, *arguments, env=ENVIRONMENT)


def test_rows_that_never_ended_keep_no_guest_down_on_any_boot(tmp_path: Path) -> None:
    with the_host(tmp_path, "rows") as world:
        before = [json.loads(line) for line in planned(world).out.splitlines()]
        ended = world.computer.run()

        assert ended.code == 0
        assert set(powers(world).values()) == {PowerState.RUNNING}
        assert {each["because"][-1] for each in before} == {"ran_before"} == set(because(ended).values())
        told = messages(ended)
        assert sorted(told) == [1, 2, 3, 4, 5, 7]
        assert "live-migration 000000a1-1111-4000-8000-000000000001 to hv-40 is queued: left over" in told[1]
        assert {each["uuid"]: each["told"][0]["message"] for each in before if "told" in each} == {
            uuid_of(0xA1, number): message for number, message in told.items()
        }
        # Nobody has stopped them since.
        assert set(because(world.computer.run()).values()) == {"runs"}
        world.cut_power(2)
        assert set(because(world.computer.run()).values()) == {"ran_before"}


def test_a_machine_with_two_names_is_refused_by_run_plan_and_check_alike(tmp_path: Path) -> None:
    with the_host(tmp_path, "two-names") as world:
        said = "the records of 3 of the 5 guests here name hv-12.dc3.example.net"
        for ended in (
            world.computer.run(),
            planned(world),
            run("check", "--json", *world.computer.arguments, env=ENVIRONMENT),
        ):
            assert ended.code == 78
            assert said in ended.out + ended.err
        assert set(powers(world).values()) == {PowerState.SHUTDOWN}


@pytest.mark.parametrize("setting", ["leave", "power_off"])
def test_one_guest_of_another_name_is_named_and_what_is_done_with_it_says_a_setting(
    tmp_path: Path, setting: str
) -> None:
    with the_host(tmp_path, "one-stray", guards={"foreign_running": setting}) as world:
        ended = world.computer.run()

        assert ended.code == 0
        assert ended.named("host.foreign_guests")[0]["hosts"] == ["hv-77"]
        assert ended.named("host.guests_without_record") == []
        assert "names hv-77, not hv-12" in messages(ended)[5]
        assert powers(world) == {
            **dict.fromkeys((1, 2, 3, 4), PowerState.RUNNING),
            5: PowerState.PAUSED if setting == "leave" else PowerState.SHUTDOWN,
        }
        [elsewhere] = world.reports[-1]["elsewhere"]
        assert (elsewhere["host"], elsewhere["warnings"][0]["error"]) == ("hv-77", "ForeignGuest")


def test_what_was_evacuated_and_then_deleted_does_not_continue_running(tmp_path: Path) -> None:
    with the_host(tmp_path, "deleted") as world:
        ended = world.computer.run()

        assert ended.code == 0
        assert powers(world) == {2: PowerState.RUNNING, 3: PowerState.SHUTDOWN}
        assert because(ended) == {1: "evacuated", 2: "ran_before", 3: "evacuation_running"}
        again = world.computer.run()
        assert because(again) == {2: "runs", 3: "evacuation_running"}


def test_what_was_live_migrated_away_is_not_started_here(tmp_path: Path) -> None:
    with the_host(tmp_path, "away") as world:
        ended = world.computer.run()

        assert because(ended) == {1: "live_migrated_away", 2: "live_migrated_away"}
        told = messages(ended)
        assert ("hv-99" in told[1], "hv-98" in told[2]) == (True, True)
        assert all("Do not hard reboot" in message for message in told.values())
        assert powers(world) == {}
        assert {one["outcome"] for one in world.reports[-1]["instances"]} == {"deferred"}
        assert {(one["vm_state"], one["task_state"]) for one in world.reports[-1]["instances"]} == {
            ("active", "migrating"),
            ("paused", None),
        }


def test_what_nobody_finishes_is_reported_with_the_command_that_clears_it(tmp_path: Path) -> None:
    with the_host(tmp_path, "stuck") as world:
        ended = world.computer.run()

        told = messages(ended)
        for number in range(1, 6):
            assert told[number].endswith(f"openstack server set --state active {uuid_of(0xA5, number)}")
        assert because(ended) == {
            **dict.fromkeys(range(1, 6), "ran_before"),
            6: "resize_has_not_arrived",
            7: "resume_not_wanted",
        }
        assert f"{uuid_of(0xA5, 6)}_resize" in told[6]
        assert '"yes": give one of never, on_host_boot, on_every_start' in told[7]
