"""Scenario files of the simulated host."""

import json
from pathlib import Path
from random import Random
from typing import Any, Final

from hypothesis import given

from bringup.drivers.base import PowerState
from bringup.drivers.simulated import (
    Fault,
    Scenario,
    ScenarioError,
    SimulatedCapacity,
    SimulatedGuest,
    Uniform,
    dump_scenario,
    read_scenario,
)
from support.drivers import uuid_of
from support.fuzzing import CHANCES, Border, fuzz
from support.mutating import mutated, written

BORDER = "scenario"
BASE: Final[Any] = json.loads(
    dump_scenario(
        Scenario(
            seed=7,
            capacity=SimulatedCapacity(running=100),
            latency={"default": 0.01, "plug_vifs": Uniform(0.01, 0.05)},
            guests=(
                SimulatedGuest(uuid=uuid_of(1), name="instance-00000001", latency={"reboot": 40.0}),
                SimulatedGuest(uuid=uuid_of(2), power_state=PowerState.SHUTDOWN, shared_storage=True),
            ),
            faults=(
                Fault(verb="reboot", uuid=uuid_of(1), hang=True, times=1),
                Fault(verb="power_on", error="DriverError", message="no memory", after=10, effect="after"),
            ),
        )
    )
)


@fuzz(250)
@given(chance=CHANCES)
def test_a_scenario_is_read_or_refused_with_what_is_wrong(border: Border, tmp_path: Path, chance: Random) -> None:
    file = tmp_path / "scenario.json"
    file.write_bytes(written(chance, mutated(chance, BASE)))
    with border.one(ScenarioError):
        read_scenario(file)
