"""Two daemons, one store, and somebody who moves instances while both come back: no guest ends up on two hosts."""

import random
import tempfile
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bringup.daemon.decisions.policies import ResumePolicy
from bringup.daemon.decisions.resume_policy import Resuming
from bringup.daemon.decisions.states import PowerState
from bringup.daemon.errors import RecordNotFound
from bringup.daemon.recovery.context import Host, Startup
from bringup.daemon.recovery.init_host import init_host
from bringup.daemon.storage.store.base import Claimant, Records
from bringup.daemon.storage.store.sql import SqlStore
from bringup.drivers.simulated import Latency, LatencyKey, Scenario, SimulatedDriver, SimulatedGuest, Uniform
from support.drivers import uuid_of
from support.hosts import IN_MEMORY, executor_of, host_of, instance, limits, start_of
from support.records import migration
from support.stores import open_sqlite

pytestmark = pytest.mark.anyio

HOSTS = ("compute-1", "compute-2")
COUNT = 6


def daemon_of(name: str, driver: SimulatedDriver, store: SqlStore) -> Startup:
    """Make a daemon of a host."""

    async def open_host() -> Host:
        claimant = Claimant(name, f"node of {name}")
        await store.take_lease(claimant, for_s=3600)
        executor = executor_of(driver, store)
        executor = replace(executor, start_claim=replace(executor.start_claim, claimant=claimant))
        return host_of(
            executor,
            name=name,
            limits=limits(concurrency=3),
            resuming=Resuming(ResumePolicy(guests="on_every_start")),
            # Both have the guests from the start, which no migration says: an operator has accepted that.
            accepted_guests=frozenset(uuid_of(number) for number in range(1, COUNT + 1)),
        )

    return start_of(open_host)


async def a_while(draw: random.Random) -> None:
    for _ in range(draw.randrange(40)):
        await anyio.lowlevel.checkpoint()


async def evacuate(store: SqlStore, number: int, draw: random.Random, happened: list[str]) -> None:
    """Move an instance from the first host to the second as Nova does: the migration first, then the record."""
    for status in ("accepted", "pre-migrating"):
        record = await store.get_instance(uuid_of(number))
        evacuation = migration(number, status=status)
        await store.import_records(Records(instances=(record,), migrations=(evacuation,)))
        happened.append(f"{status} {uuid_of(number)}")
        await a_while(draw)
    record = replace(await store.get_instance(uuid_of(number)), host=HOSTS[1])
    await store.import_records(Records(instances=(record,), migrations=(migration(number, status="done"),)))


@given(seed=st.integers(0, 2**32))
@settings(max_examples=30)
async def test_no_guest_ends_up_running_where_its_record_is_not(seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311 - a schedule, no secret
    guests = tuple(SimulatedGuest(uuid=uuid_of(n), power_state=PowerState.SHUTDOWN) for n in range(1, COUNT + 1))
    latency: dict[LatencyKey, Latency] = {"default": Uniform(0.0, 0.004)}
    drivers = [SimulatedDriver(Scenario(seed=seed + i, guests=guests, latency=latency)) for i in range(2)]
    moved = draw.sample(range(1, COUNT + 1), 3)
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        async with open_sqlite(Path(folder) / "records.sqlite") as store:
            # One instance of the second host's own: its guests are not strangers' alone.
            own = instance(COUNT + 1, host=HOSTS[1])
            await store.import_records(Records(instances=(*(instance(n) for n in range(1, COUNT + 1)), own)))
            happened: list[str] = []
            drivers[0].register_event_listener(lambda event: happened.append(f"{event.transition.value} {event.uuid}"))
            await run_all(store, drivers, moved, draw, happened)

            # What the first host has started after it was to be evacuated does not run there any more.
            for number in moved:
                if number_runs(drivers[0], number):
                    started, accepted = (
                        happened.index(f"{what} {uuid_of(number)}") for what in ("started", "accepted")
                    )
                    assert started < accepted, happened

            # Each comes to rest: both start once more, as after the next boot, with nobody moving anything.
            for name, driver in zip(HOSTS, drivers, strict=True):
                await init_host(daemon_of(name, driver, store))
            for number in range(1, COUNT + 1):
                running = [name for name, driver in zip(HOSTS, drivers, strict=True) if number_runs(driver, number)]
                record = await store.get_instance(uuid_of(number))
                assert running == [record.host], (number, running, record.host)


def number_runs(driver: SimulatedDriver, number: int) -> bool:
    found = driver.guests.get(uuid_of(number))
    return found is not None and found.power_state is PowerState.RUNNING


async def run_all(
    store: SqlStore, drivers: list[SimulatedDriver], moved: list[int], draw: random.Random, happened: list[str]
) -> None:
    async def come_back(name: str, driver: SimulatedDriver) -> None:
        await a_while(draw)
        await init_host(daemon_of(name, driver, store))

    async def move(number: int) -> None:
        await a_while(draw)
        try:
            await evacuate(store, number, draw, happened)
        except RecordNotFound:
            raise AssertionError(number) from None

    async with anyio.create_task_group() as group:
        for name, driver in zip(HOSTS, drivers, strict=True):
            group.start_soon(come_back, name, driver)
        for number in moved:
            group.start_soon(move, number)
