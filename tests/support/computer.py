"""One compute host in a directory: its settings, its scenario, its records, and the commands that are run on it."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from bringup.daemon.decisions.instances import Instance, Migration
from bringup.daemon.storage.record_files import Records
from bringup.drivers.simulated import Fault, Scenario, SimulatedGuest, dump_scenario
from support.placement import fresh_name, real_placement
from support.process import Ended, Running, run, running
from support.records import HOST, uuid_of
from support.stores import open_sqlite


@dataclass
class Computer:
    """The files of one compute host: settings, scenario, records, state."""

    directory: Path
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def store(self) -> Path:
        return self.state / "instances.sqlite"

    @property
    def waiting(self) -> list[Path]:
        """Reports that wait to be sent."""
        return sorted((self.state / "outbox").glob("*.json"))

    def having(self, **sections: Mapping[str, Any]) -> "Computer":
        """Change settings."""
        for name, values in sections.items():
            self.sections[name] = {**self.sections.get(name, {}), **values}
        return self

    @property
    def arguments(self) -> tuple[str, str]:
        """Write the settings down; return the arguments that name them."""
        lines = []
        for name, values in self.sections.items():
            lines.append(f"[{name}]")
            # A string, number, boolean or list of JSON is one of TOML.
            lines += [f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None]
        config = self.directory / "bringup.toml"
        config.write_text("\n".join(lines) + "\n")
        return "-c", str(config)

    def guests(
        self, instances: Sequence[Instance], *faults: Fault, latency: Mapping[Any, float] | None = None
    ) -> "Computer":
        """Prepare a hypervisor with these guests, all running."""
        guests = tuple(SimulatedGuest(uuid=one.uuid, name=one.name) for one in instances)
        scenario = Scenario(guests=guests, faults=faults, latency=latency or {})
        (self.directory / "scenario.json").write_text(dump_scenario(scenario))
        return self

    def records(self, instances: Sequence[Instance], migrations: Sequence[Migration] = ()) -> "Computer":
        """Store these records."""

        async def store() -> None:
            self.state.mkdir(mode=0o700, exist_ok=True)
            async with open_sqlite(self.store) as open_store:
                await open_store.import_records(Records(instances=tuple(instances), migrations=tuple(migrations)))

        anyio.run(store)
        return self

    def stored(self) -> dict[str, Instance]:
        """Read the records of instances 1 to 99, by UUID."""

        async def read() -> list[Instance]:
            async with open_sqlite(self.store, must_exist=True) as store:
                return await store.load_instances_by_uuid([uuid_of(number) for number in range(1, 100)])

        return {one.uuid: one for one in anyio.run(read)}

    def run(self, *arguments: str, **options: Any) -> Ended:
        """Run ``bringup run --once --json``."""
        return run("run", "--once", "--json", *self.arguments, *arguments, **options)

    def once(self, *arguments: str, **options: Any) -> Ended:
        """Run ``bringup run --once``, whose errors are words."""
        return run("run", "--once", *self.arguments, *arguments, **options)

    def stay(self, *arguments: str, **options: Any) -> contextlib.AbstractContextManager[Running]:
        """Run ``bringup run --json`` beside the block."""
        return running("run", "--json", *self.arguments, *arguments, **options)


def a_computer(directory: Path, *, placement: str | None = None, scheduler: str | None = None) -> Computer:
    """Make a host with a Placement, the real one unless another is named, and limits that a test can wait for."""
    computer = Computer(directory)
    provider = fresh_name()
    computer.having(
        host={"name": HOST, "state_directory": str(directory / "state")},
        limits={"concurrency": 4, "instance_deadline": 20, "host_deadline": 20, "shutdown_report_deadline": 8},
        guests={"shutdown_timeout": 1},
        placement={
            "url": placement or real_placement(),
            "resource_provider": provider,
            "create_resource_provider": True,
            # A real one that is slow is no fault; one of a test's own is there to fail.
            "wait": 60 if placement is None else 1,
        },
        driver={"scenario": str(directory / "scenario.json")},
    )
    if scheduler is not None:
        computer.having(
            scheduler={"transport": "http", "url": f"{scheduler}/reports", "timeout": 6, "retry_initial": 0.05}
        )
    return computer
