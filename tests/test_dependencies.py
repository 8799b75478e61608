"""Instances that wait for others: outside the slots, for as long as these start, and not for ever."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from bringup.daemon.decisions.outcomes import Did, Kind
from bringup.daemon.decisions.policies import PacePolicy
from bringup.daemon.decisions.states import PowerState
from bringup.drivers.simulated import Fault, Verb
from support.drivers import uuid_of
from support.hosts import ArrangedHost, arranged, guest, instance, limits, outcome_of

pytestmark = pytest.mark.anyio

START: Verb = "resume_state_on_host_boot"


@asynccontextmanager
async def after_power_cut(
    after: dict[int, str], count: int, *, concurrency: int = 2, at_most_s: float = 300.0
) -> AsyncIterator[ArrangedHost]:
    """Arrange guests that are off and named by their numbers; each waits for those that ``after`` names."""
    instances = [
        instance(number, display_name=str(number), metadata={"bringup:after": after[number]} if number in after else {})
        for number in range(1, count + 1)
    ]
    guests = [guest(number, PowerState.SHUTDOWN) for number in range(1, count + 1)]
    chosen: dict[str, Any] = {"limits": limits(concurrency=concurrency), "pace": PacePolicy(after_at_most=at_most_s)}
    async with arranged(instances, guests=guests, resume_guests=True, **chosen) as host:
        yield host


async def test_what_waits_holds_no_slot_and_is_started_when_its_dependency_is() -> None:
    async with after_power_cut({1: "4"}, 4, concurrency=2) as host:
        hang = Fault(verb=START, uuid=uuid_of(4), hang=True)
        host.driver.inject(hang)
        async with anyio.create_task_group() as group:
            group.start_soon(host.run)
            with anyio.fail_after(30):
                await host.driver.entered(START, uuid_of(3))
            while host.progress.done < 2:
                await anyio.wait_all_tasks_blocked()
            meanwhile = list(host.progress.began_in_order)
            host.driver.lift(hang)

        assert meanwhile == [uuid_of(number) for number in (4, 2, 3)]
        assert host.progress.began_in_order[-1] == uuid_of(1)
        assert {outcome.did for outcome in host.reports[0].outcomes} == {Did.STARTED}


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_chain_is_started_in_its_order(concurrency: int) -> None:
    async with after_power_cut({1: "2", 2: "3"}, 3, concurrency=concurrency) as host:
        result = await host.run()

        assert host.progress.began_in_order == [uuid_of(number) for number in (3, 2, 1)]
        assert [outcome.uuid for outcome in result.outcomes] == host.progress.began_in_order


async def test_a_dependency_that_hangs_is_waited_for_so_long_and_no_longer() -> None:
    async with after_power_cut({1: "2"}, 2, at_most_s=0.05) as host:
        hang = Fault(verb=START, uuid=uuid_of(2), hang=True)
        host.driver.inject(hang)
        with capture_logs() as logs:
            async with anyio.create_task_group() as group:
                group.start_soon(host.run)
                with anyio.fail_after(30):
                    await host.driver.entered(START, uuid_of(1))
                host.driver.lift(hang)

        assert [line for line in logs if line["event"] == "order.dependency_not_ready"] == [
            {
                "event": "order.dependency_not_ready",
                "log_level": "warning",
                "dependency": uuid_of(2),
                "why": "it was not ready within 0.05 s",
                "count": 1,
                "first": [uuid_of(1)],
            }
        ]
        assert {outcome.did for outcome in host.reports[0].outcomes} == {Did.STARTED}


async def test_one_that_fails_lets_the_others_continue_at_once() -> None:
    async with after_power_cut({1: "2"}, 2) as host:
        host.driver.inject(Fault(verb=START, uuid=uuid_of(2), error="RuntimeError"))
        with capture_logs() as logs:
            result = await host.run()

        assert [outcome_of(result, number).kind for number in (2, 1)] == [Kind.FAILED, Kind.INITIALIZED]
        whys = [line["why"] for line in logs if line["event"] == "order.dependency_not_ready"]
        assert whys == ["its outcome is failed"]


async def test_a_dependency_that_runs_already_or_stays_off_is_not_waited_for() -> None:
    instances = [
        instance(1, display_name="web", metadata={"bringup:after": "db,cache"}),
        instance(2, display_name="db"),
        instance(3, display_name="cache", power_state=PowerState.SHUTDOWN),
    ]
    guests = [guest(1, PowerState.SHUTDOWN), guest(2), guest(3, PowerState.SHUTDOWN)]
    async with arranged(instances, guests=guests, resume_guests=True) as host:
        with capture_logs() as logs:
            result = await host.run()

        assert [outcome_of(result, number).did for number in (1, 2, 3)] == [
            Did.STARTED,
            Did.LEFT_RUNNING,
            Did.STAYS_OFF,
        ]
        assert not [line for line in logs if line["event"].startswith("order.")]


async def test_a_circle_and_an_unknown_name_are_logged_and_nobody_waits() -> None:
    async with after_power_cut({1: "2", 2: "1", 3: "nowhere"}, 3) as host:
        with capture_logs() as logs:
            result = await host.run()

        assert {outcome.did for outcome in result.outcomes} == {Did.STARTED}
        (line,) = [line for line in logs if line["event"] == "order.ignored"]
        assert (line["count"], line["see"]) == (3, "bringup plan")
        assert line["first"][uuid_of(3)] == (
            'bringup:after "nowhere" is ignored: no guest of this host has that name or UUID',
        )


async def test_a_run_that_is_stopped_does_not_wait_for_dependencies() -> None:
    async with after_power_cut({1: "2"}, 2) as host:
        host.driver.inject(Fault(verb=START, uuid=uuid_of(2), hang=True))
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(host.run)
                await host.driver.entered(START, uuid_of(2))
                group.cancel_scope.cancel()

        assert host.reports[0].unfinished == (uuid_of(1), uuid_of(2))
