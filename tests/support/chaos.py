"""A host whose daemon is killed, and what is compared in the end."""

import json
import os
import random
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import anyio

from bringup.daemon.cli.demo_site.crashed_host import crashed_host
from bringup.daemon.decisions.instances import Instance, Migration
from bringup.daemon.errors import Temporary
from bringup.daemon.service.assembly import opened_own_store, opened_store
from bringup.daemon.settings import Settings, load
from bringup.daemon.storage.journal.history import read
from bringup.daemon.storage.record_files import Records
from bringup.drivers.needs import MetBy, NeedState
from bringup.drivers.simulated import (
    Fault,
    Latency,
    LatencyKey,
    Scenario,
    SimulatedDriver,
    SimulatedGuest,
    SimulatedNeed,
    Uniform,
    dump_scenario,
)
from support.computer import Computer, a_computer
from support.scheduler import receiver

COPIES = 3
"""Of the demonstration's host: 200 instances and some."""
LACKING = SimulatedNeed(name="/dev/dm-3", state=NeedState.UNVERIFIED, met_by=MetBy.NOVA)
LACKS_EACH = 6
ONCE = ("reboot", "resume_state_on_host_boot")
PATIENCE_S = 60


def _copy_of(uuid: str, number: int) -> str:
    return str(uuid5(NAMESPACE_URL, f"{uuid}/{number}"))


def many_instances() -> tuple[Records, Scenario]:
    """Return the demonstration's host several times over; nothing hangs, everything is quick."""
    records, scenario = crashed_host()
    instances: list[Instance] = []
    migrations: list[Migration] = []
    guests: list[SimulatedGuest] = []
    faults: list[Fault] = []
    for number in range(COPIES):
        instances += [
            replace(one, uuid=_copy_of(one.uuid, number), name=f"{one.name}-{number}") for one in records.instances
        ]
        migrations += [
            replace(one, uuid=_copy_of(one.uuid, number), instance_uuid=_copy_of(one.instance_uuid, number))
            for one in records.migrations
        ]
        guests += [
            replace(
                one,
                uuid=_copy_of(one.uuid, number),
                name=f"{one.name}-{number}",
                latency={},
                # Some cannot be started, and nobody waits for what they lack.
                needs=(LACKING,) if at % LACKS_EACH == number else (),
            )
            for at, one in enumerate(scenario.guests)
        ]
        faults += [
            replace(one, uuid=_copy_of(one.uuid, number))
            for one in scenario.faults
            if one.uuid is not None and not one.hang
        ]
    latency: dict[LatencyKey, Latency] = {
        "default": Uniform(0.001, 0.01),
        "reboot": Uniform(0.01, 0.05),
        "get_info": 0.001,
    }
    return (
        Records(instances=tuple(instances), migrations=tuple(migrations)),
        Scenario(seed=7, guests=tuple(guests), faults=tuple(faults), latency=latency),
    )


@dataclass(slots=True)
class World:
    """One host in a directory, its scheduler, and everything that is left of it in the end."""

    directory: Path
    computer: Computer
    records: Records
    reports: list[Any] = field(default_factory=list)

    @property
    def config(self) -> str:
        return self.computer.arguments[1]

    @property
    def settings(self) -> Settings:
        return load(Path(self.config), environment={}, overrides=())

    def store_records(self, records: Records) -> None:
        """Store these records, wherever the store is."""

        async def store() -> None:
            self.computer.state.mkdir(mode=0o700, exist_ok=True)
            async with opened_own_store(self.settings) as opened:
                await opened.import_records(records)

        anyio.run(store)

    @property
    def driver(self) -> SimulatedDriver:
        scenario = self.directory / "scenario.json"
        return SimulatedDriver.from_file(scenario, state_path=self.directory / "guests.sqlite")

    def boot(self, number: int) -> None:
        """Change the kernel's boot id."""
        (self.directory / "boot_id").write_text(f"{uuid5(NAMESPACE_URL, str(number))}\n")

    def cut_power(self, number: int) -> None:
        """Stop every guest at once, and boot."""
        self.driver.host_loses_power()
        self.boot(number)

    def stored(self) -> tuple[dict[str, Instance], dict[str, str]]:
        """Read the records, times left out, and the status of each migration."""

        async def load() -> tuple[list[Instance], list[Migration]]:
            async with opened_store(self.settings) as store:
                uuids = [one.uuid for one in self.records.instances]
                statuses = {"accepted", "pre-migrating", "done", "completed", "running", "error"}
                return await store.load_instances_by_uuid(uuids), await store.load_migrations("compute-1", statuses)

        instances, migrations = anyio.run(load)
        return (
            {one.uuid: replace(one, terminated_at=None) for one in instances},
            {one.uuid: one.status for one in migrations},
        )

    def settled(self) -> int:
        """Count the instances of which the journal has an outcome."""
        with read(self.computer.state / "journal.sqlite") as history:
            last = None if history is None else history.run("last")
            if history is None or last is None:
                return 0
            return sum(row["kind"] is not None for row in history.instances_of(last["run_id"]))

    def has_ended(self) -> bool:
        """Check in the journal whether a run has ended."""
        try:
            with read(self.computer.state / "journal.sqlite") as history:
                return history is not None and any(run["state"] == "ended" for run in history.runs(1))
        except Temporary:
            # Killed while the file was made: SQLite has to roll that back first, which the next start does.
            return False

    def kinds(self) -> dict[str, str]:
        """Read from the journal what came of each instance; there must be one run, and it must have ended."""
        with read(self.computer.state / "journal.sqlite") as history:
            assert history is not None
            [run] = history.runs(10)
            assert run["state"] == "ended", run
            return {row["uuid"]: row["kind"] for row in history.instances_of(run["run_id"])}

    def kept_disks(self) -> dict[str, list[str]]:
        """Read from the journal where disks are set aside."""
        with read(self.computer.state / "journal.sqlite") as history:
            assert history is not None
            return {row["uuid"]: row["where"] for row in history.kept_disks()}

    def end(self) -> dict[str, Any]:
        """Return what must be the same however often the daemon was killed."""
        driver = self.driver
        instances, migrations = self.stored()
        complete = [report for report in self.reports if not report["unfinished"]]
        assert len({report["report_id"] for report in complete}) == 1, "a settled run has one report"
        last = complete[-1]
        return {
            "records": instances,
            "migrations": migrations,
            "guests": {uuid: guest.power_state for uuid, guest in driver.guests.items()},
            "disks destroyed": frozenset(driver.hypervisor.disks_destroyed),
            "disks set aside": frozenset(driver.hypervisor.disks_set_aside),
            "kept": self.kept_disks(),
            "told": {
                one["uuid"]: (one["host"], one["vm_state"], one["task_state"], one["power_state"])
                for one in (*last["instances"], *last["elsewhere"])
            },
            "told to be deleted": frozenset(last["deleted"]),
        }

    def done(self) -> dict[tuple[str, str], int]:
        """Count the effects of what must be done once."""
        driver = self.driver
        return {
            (verb, one.uuid): count
            for verb in ONCE
            for one in self.records.instances
            if (count := driver.done(verb, one.uuid))  # type: ignore[arg-type]  # a verb
        }


@contextmanager
def a_world(directory: Path, records: Records, scenario: Scenario, **sections: dict[str, Any]) -> Iterator[World]:
    """Provide a host with these records and guests, and a scheduler."""
    directory.mkdir(parents=True, exist_ok=True)
    with receiver(directory / "scheduler") as scheduler:
        computer = a_computer(directory, scheduler=scheduler.url)
        computer.having(
            host={"boot_id": str(directory / "boot_id")},
            limits={"concurrency": 16, "instance_deadline": 30},
            driver={"scenario_state": str(directory / "guests.sqlite")},
            resume={"guests": "on_host_boot"},
            evacuated={"shared_storage": "local", "keep_disks_for": 3600},
            guards={"destroy_at_most": 100, "destroy_share": 1},
            log={"level": "warning", "format": "json"},
        )
        computer.having(**sections)
        (directory / "scenario.json").write_text(dump_scenario(scenario))
        world = World(directory, computer, records, scheduler.reports)
        world.boot(1)
        world.store_records(records)
        yield world


class Clock:
    """The wall clock of some processes, which a test sets."""

    def __init__(self, directory: Path, compiler: str) -> None:
        library, self._file = directory / "jumping_clock.so", directory / "clock"
        source = Path(__file__).with_name("jumping_clock.c")
        command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(source), "-ldl"]
        subprocess.run(command, check=True)
        self.environment = {"LD_PRELOAD": str(library), "JUMPING_CLOCK": str(self._file)}
        self.is_off(0)

    def is_off(self, seconds: int) -> None:
        """Jump to so many seconds ahead of the real clock."""
        with self._file.open("r+b" if self._file.exists() else "xb") as file:
            file.write(struct.pack("q", seconds))


class Runner:
    """Runs daemons in children of a warm process."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        child = Path(__file__).with_name("chaos_child.py")
        self._process = subprocess.Popen(
            [sys.executable, str(child)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )

    def run(
        self,
        config: str,
        *,
        kill_at: int | None = None,
        kill_after_s: float | None = None,
        number: signal.Signals = signal.SIGKILL,
    ) -> int:
        """Run once; kill at a boundary of the journal, after a time, or not.  Gives the exit code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"config": config, "kill_at": kill_at}) + "\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        killer = None
        if kill_after_s is not None:
            # Its parent reaps it only after it has ended, and the timer is cancelled before the next one is begun.
            killer = threading.Timer(kill_after_s, _kill, (pid, number))
            killer.start()
        try:
            return int(self._process.stdout.readline())
        finally:
            if killer is not None:
                killer.cancel()
                killer.join()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # One that has died fails the test that used it, and no other by what is left of it.
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(PATIENCE_S)
        self._process.stdout.close()


def _kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def moments(seed: int, count: int, longest_s: float) -> list[float]:
    """Draw the moments of kills."""
    draw = random.Random(seed)  # noqa: S311 - chaos, no secret
    return [draw.uniform(0, longest_s) for _ in range(count)]
