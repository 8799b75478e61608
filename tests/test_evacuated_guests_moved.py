"""An evacuated instance whose record moves between the load of the records and the destroy of its guest."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import Kind, RunResult
from bringup.daemon.decisions.states import PowerState
from bringup.daemon.recovery.evacuated_guests import SettingWitness
from bringup.daemon.storage.record_files import Records
from bringup.drivers.simulated import Fault
from support.drivers import uuid_of
from support.hosts import ELSEWHERE, HOST, ArrangedHost, arranged, evacuation, instance, limits, outcome_of

pytestmark = pytest.mark.anyio

FIRST, MOVES = (instance(number, host=ELSEWHERE) for number in (1, 2))
EVACUATIONS = [evacuation(1), evacuation(2)]


@asynccontextmanager
async def moved_while_another_is_destroyed(moved: Instance) -> AsyncIterator[tuple[ArrangedHost, RunResult]]:
    """Run a host of two evacuated guests; the record of the second is overwritten while the first is destroyed."""
    one_at_a_time = limits(concurrency=1)
    async with arranged(
        [FIRST, MOVES], migrations=EVACUATIONS, limits=one_at_a_time, witness=SettingWitness("local")
    ) as host:
        hang = Fault(verb="destroy", uuid=FIRST.uuid, hang=True)
        host.driver.inject(hang)
        results: list[RunResult] = []

        async def run() -> None:
            results.append(await host.run())

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(run)
                await host.driver.entered("destroy", FIRST.uuid)
                await host.store.import_records(Records(instances=(moved,), migrations=()))
                host.driver.lift(hang)
        yield host, results[0]


@pytest.mark.parametrize("now_on", [HOST, "compute-3", None], ids=["home", "a-third-host", "no-host"])
async def test_a_guest_whose_record_moved_is_superseded_and_nothing_of_it_is_destroyed(now_on: str | None) -> None:
    moved = replace(MOVES, host=now_on)
    async with moved_while_another_is_destroyed(moved) as (host, result):
        outcome = outcome_of(result, 2)
        assert outcome.kind is Kind.SUPERSEDED
        assert outcome.problem is not None
        assert (outcome.problem.action, outcome.problem.error) == ("destroy_evacuated", "StateConflict")
        assert str(now_on) in outcome.problem.message
        assert ELSEWHERE in outcome.problem.message
        assert host.trace.names(uuid_of(2)) == ["store.get_instance"]
        assert host.power(2) is PowerState.RUNNING
        assert host.driver.hypervisor.disks_destroyed == {uuid_of(1)}
        assert await host.evacuation_status(2) == "done"
        assert await host.record(2) == moved
        assert outcome_of(result, 1).kind is Kind.INITIALIZED


async def test_what_came_home_meanwhile_is_an_instance_of_this_host_at_the_next_start() -> None:
    async with moved_while_another_is_destroyed(replace(MOVES, host=HOST)) as (host, _):
        again = await host.run()

        assert outcome_of(again, 2).because == ("vifs", "runs")
        assert host.power(2) is PowerState.RUNNING


async def test_a_record_that_changed_but_did_not_move_is_destroyed_all_the_same() -> None:
    async with moved_while_another_is_destroyed(replace(MOVES, display_name="renamed")) as (host, result):
        assert outcome_of(result, 2).kind is Kind.INITIALIZED
        assert host.power(2) is None
        assert await host.evacuation_status(2) == "completed"
