"""A scenario file is read whole, or refused with what is wrong with it."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.drivers.base import PowerState
from bringup.drivers.simulated import (
    Exponential,
    Fault,
    Lognormal,
    Scenario,
    ScenarioError,
    SimulatedCapacity,
    SimulatedDriver,
    SimulatedGuest,
    Uniform,
    dump_scenario,
    read_scenario,
)
from support.drivers import uuid_of
from support.scenarios import SCHEMA_SAYS, problems_of, read

DOCS = Path(__file__).parents[1] / "docs" / "scenarios.md"
ONE, TWO = uuid_of(1), uuid_of(2)


def test_the_documented_example_is_read_and_follows_the_schema(tmp_path: Path) -> None:
    example = re.search(r"```json\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert example is not None
    SCHEMA_SAYS.validate(json.loads(example[1]))

    assert read(tmp_path, example[1]) == Scenario(
        seed=7,
        capacity=SimulatedCapacity(running=100),
        latency={
            "default": 0.01,
            "plug_vifs": Uniform(0.01, 0.05),
            "power_off": Exponential(1.0),
            "reboot": Lognormal(2.0, 0.8),
        },
        guests=(
            SimulatedGuest(uuid=ONE, name="instance-00000001", latency={"reboot": 40}),
            SimulatedGuest(uuid=TWO, power_state=PowerState.SHUTDOWN, shared_storage=True, vifs_broken=True),
        ),
        faults=(
            Fault(verb="reboot", uuid=ONE, hang=True, times=1),
            Fault(verb="power_on", error="DriverError", message="no memory", after=10, effect="after"),
        ),
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"format": "bringup.sc', r"is not JSON: .* at line 1, column 12; is it truncated\?$"),
        (b'{"format": "bringup.scenario/1", ', r"is not JSON: .*; is it truncated\?$"),
        (b"", r"is not JSON: .*; is it truncated\?$"),
        (b'{"format": "\xff"}', r"is not UTF-8: byte 12 is 0xff$"),
        (b'{"seed": 1 "x": 2}', r"is not JSON: Expecting ',' delimiter at line 1, column 12$"),
        (b"[]", r"is a JSON \[\]; must be an object$"),
        (b'{"seed": 1, "seed": 2}', r'an object has the key "seed" more than once$'),
        (b'{"seed": NaN}', r"NaN is not a JSON number$"),
        (b'{"seed": ' + b"9" * 5000 + b"}", r"is not JSON that can be used: Exceeds the limit"),
        (b"[" * 100_000, r"is not JSON that can be used: it is nested too deeply$"),
    ],
    ids=[
        "truncated text",
        "truncated",
        "empty",
        "not UTF-8",
        "no comma",
        "a list",
        "key twice",
        "NaN",
        "digits",
        "deep",
    ],
)
def test_a_file_that_is_no_scenario_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    (told,) = problems_of(tmp_path, content)

    assert re.search(problem, told)


def test_a_file_that_is_too_long_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "scenario.json"
    with path.open("wb") as file:
        file.truncate(200 * 2**20)

    with pytest.raises(ScenarioError, match="is longer than 67108864 bytes"):
        read_scenario(path)


def test_the_limit_is_what_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "scenario.json"
    path.write_text(dump_scenario(Scenario()))
    length = path.stat().st_size

    assert read_scenario(path, limit_bytes=length) == Scenario()
    with pytest.raises(ScenarioError, match=f"is longer than {length - 1} bytes"):
        read_scenario(path, limit_bytes=length - 1)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"gone\.json: cannot be read: No such file or directory"):
        SimulatedDriver.from_file(tmp_path / "gone.json")


SECONDS = st.floats(0, 1e6)
GUESTS = st.builds(
    SimulatedGuest,
    uuid=st.uuids().map(str),
    name=st.text(),
    power_state=st.sampled_from(PowerState),
    shared_storage=st.sampled_from([True, False, None]),
    migrating=st.booleans(),
    latency=st.dictionaries(st.sampled_from(["default", "reboot"]), st.builds(Lognormal, SECONDS, st.floats(0, 10))),
)


@given(seed=st.integers(-(2**63), 2**63), guests=st.lists(GUESTS, unique_by=lambda guest: guest.uuid).map(tuple))
def test_a_scenario_is_read_as_it_was_dumped(
    tmp_path_factory: pytest.TempPathFactory, seed: int, guests: tuple[SimulatedGuest, ...]
) -> None:
    scenario = Scenario(seed=seed, guests=guests, faults=(Fault(verb="close", error="TimeoutError", times=3),))
    path = tmp_path_factory.mktemp("scenario") / "scenario.json"
    path.write_text(dump_scenario(scenario), encoding="utf-8")

    assert read_scenario(path) == scenario


@pytest.mark.parametrize("depth", [50, 300, *range(900, 1000, 9), 2_000])
@pytest.mark.parametrize("key", ["guests", "seed", "latency", "unknown", "faults"])
def test_what_is_nested_is_refused_in_a_sentence_however_deeply(tmp_path: Path, key: str, depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    assert problems_of(tmp_path, b'{"format": "bringup.scenario/1", "' + key.encode() + b'": ' + nested + b"}")
