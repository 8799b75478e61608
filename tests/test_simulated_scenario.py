"""What a scenario says is right, or each place where it is not is named; the schema says the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from bringup.drivers.simulated import (
    Scenario,
    ScenarioError,
    read_scenario,
)
from bringup.drivers.simulated.scenario_file import FORMAT
from support.drivers import uuid_of
from support.scenarios import SCHEMA_SAYS, problems_of, read

ONE, TWO = uuid_of(1), uuid_of(2)
LETTERS = "abcdefab-0000-0000-0000-000000000001"


def document(**more: Any) -> dict[str, Any]:
    return {"format": FORMAT, **more}


def guest_document(**more: Any) -> dict[str, Any]:
    return document(guests=[{"uuid": ONE, **more}])


def fault_document(**more: Any) -> dict[str, Any]:
    return document(guests=[{"uuid": ONE}], faults=[{"verb": "reboot", **more}])


GOOD = [
    document(),
    document(capacity={"running": None}),
    document(capacity={"running": 1}, guests=[{"uuid": ONE}, {"uuid": TWO, "power_state": "shutdown"}]),
    document(latency={"default": 0, "init_host": {"exponential": 0}}),
    guest_document(shared_storage=None, power_state="nostate", latency={"destroy": {"uniform": [0, 1.5]}}),
    guest_document(uuid="ABCDEFAB-0000-0000-0000-000000000001"),
    fault_document(error="OSError", hang=False, times=None),
    fault_document(hang=True, error=None, uuid=None),
    fault_document(verb="destroy", uuid=TWO, hang=True),
]
BAD = {
    "no format": ({}, 'format: must be "bringup.scenario/1"'),
    "another format": ({"format": "bringup.scenario/9"}, 'format: must be "bringup.scenario/1"'),
    "unknown key": (document(sede=1), "sede: unknown key; must be one of seed, capacity, latency, guests, faults"),
    "unknown key of a guest": (guest_document(state=1), "guests[0].state: unknown key; must be one of uuid, name, "),
    "unknown key of a fault": (fault_document(hang=True, n=1), "faults[0].n: unknown key; must be one of verb, uuid"),
    "unknown key of capacity": (document(capacity={"cpu": 1}), "capacity.cpu: unknown key; must be one of running"),
    "a seed of text": (document(seed="7"), 'seed = "7": must be a valid integer'),
    "guests no list": (document(guests={}), "guests = {}: must be a list"),
    "a guest no object": (document(guests=[3]), "guests[0] = 3: must be an object"),
    "a guest without uuid": (document(guests=[{}]), "guests[0].uuid: is missing"),
    "no uuid": (guest_document(uuid="one"), 'guests[0].uuid = "one": must be a UUID'),
    "a uuid without dashes": (guest_document(uuid="0" * 32), "guests[0].uuid = "),
    "unknown power state": (
        guest_document(power_state="on"),
        'guests[0].power_state = "on": must be one of nostate, running, paused, shutdown, crashed, suspended',
    ),
    "a power state as a number": (guest_document(power_state=1), "guests[0].power_state = 1: must be one of nostate"),
    "a flag of text": (guest_document(vifs_broken="no"), 'guests[0].vifs_broken = "no": must be true or false'),
    "unknown verb": (fault_document(verb="rebot", hang=True), "faults[0].verb = \"rebot\": must be 'init_host', "),
    "unknown error": (fault_document(error="Oops"), "faults[0].error = \"Oops\": must be 'DriverError', "),
    "unknown effect": (fault_document(hang=True, effect="between"), 'faults[0].effect = "between": must be '),
    "never": (fault_document(hang=True, times=0), "faults[0].times = 0: must be greater than or equal to 1"),
    "error and hang": (fault_document(hang=True, error="OSError"), "faults[0] = "),
    "neither error nor hang": (fault_document(), "faults[0] = "),
    "unknown latency key": (document(latency={"rebot": 1}), "latency.rebot = "),
    "negative latency": (document(latency={"reboot": -1}), "latency.reboot = -1: must be seconds from 0 to 1000000"),
    "a latency of true": (document(latency={"reboot": True}), "latency.reboot = true: must be seconds"),
    "unknown distribution": (document(latency={"reboot": {"normal": 1}}), "latency.reboot = "),
    "two distributions": (document(latency={"reboot": {"exponential": 1, "uniform": [0, 1]}}), "latency.reboot = "),
    "a latency of a guest": (guest_document(latency={"reboot": "1s"}), 'guests[0].latency.reboot = "1s": must be'),
    "a sigma too wide": (document(latency={"reboot": {"lognormal": {"median": 1, "sigma": 11}}}), "latency.reboot"),
}
# These say something about two places at once; the schema cannot.
BAD_ACROSS = {
    "low above high": (document(latency={"reboot": {"uniform": [2, 1]}}), 'latency.reboot = {"uniform": [2, 1]}: must'),
    "one uuid twice": (
        document(guests=[{"uuid": ONE}, {"uuid": TWO}, {"uuid": ONE}]),
        f'guests[0] and guests[2]: all have the uuid "{ONE}"; it must be unique',
    ),
    "one uuid in two cases": (
        document(guests=[{"uuid": LETTERS}, {"uuid": LETTERS.upper()}]),
        f'guests[0] and guests[1]: all have the uuid "{LETTERS}"; it must be unique',
    ),
    "more guests than room": (
        document(capacity={"running": 0}, guests=[{"uuid": ONE}]),
        "capacity.running = 0: must be at least 1, the running and paused guests of this scenario",
    ),
    "a fault for nobody": (
        fault_document(uuid=TWO, hang=True),
        f'faults[0].uuid = "{TWO}": must be the uuid of a guest of this scenario',
    ),
    "a fault of the host for a guest": (
        fault_document(verb="init_host", uuid=ONE, hang=True),
        f'faults[0].uuid = "{ONE}": must be absent, init_host is not about a guest',
    ),
}


@pytest.mark.parametrize("content", GOOD, ids=str)
def test_what_is_right_is_read_and_follows_the_schema(tmp_path: Path, content: dict[str, Any]) -> None:
    assert isinstance(read(tmp_path, content), Scenario)
    assert SCHEMA_SAYS.is_valid(content)


@pytest.mark.parametrize(("content", "problem"), BAD.values(), ids=BAD.keys())
def test_what_is_wrong_is_named_and_does_not_follow_the_schema(
    tmp_path: Path, content: dict[str, Any], problem: str
) -> None:
    (told,) = problems_of(tmp_path, content)

    assert told.startswith(problem)
    assert not SCHEMA_SAYS.is_valid(content)


@pytest.mark.parametrize(("content", "problem"), BAD_ACROSS.values(), ids=BAD_ACROSS.keys())
def test_what_does_not_fit_together_is_named(tmp_path: Path, content: dict[str, Any], problem: str) -> None:
    (told,) = problems_of(tmp_path, content)

    assert told.startswith(problem)


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    content = {"sede": 1, "guests": [{"uuid": ONE}, {"uuid": ONE, "name": 3}], "faults": [{}]}

    told = problems_of(tmp_path, content)

    assert sorted(problem.split(":")[0] for problem in told) == [
        "faults[0].verb",
        "format",
        "guests[0] and guests[1]",
        "guests[1].name = 3",
        "sede",
    ]


def test_a_message_shows_the_first_twenty_problems(tmp_path: Path) -> None:
    path = tmp_path / "scenario.json"
    path.write_text(json.dumps(document(guests=[{}] * 30)))

    with pytest.raises(ScenarioError) as caught:
        read_scenario(path)

    assert len(caught.value.problems) == 30
    assert str(caught.value).endswith(f"{path}: and 10 more problems")
