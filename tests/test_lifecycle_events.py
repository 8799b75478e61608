"""Lifecycle events: held back until their instance is settled, then handled, each instance's in their order."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import Did, Outcome
from bringup.daemon.decisions.run_events import InstanceEnded
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.errors import StoreError
from bringup.daemon.recovery.lifecycle_events import AT_ONCE, KEPT_AN_INSTANCE, LifecycleWatch
from bringup.drivers.base import LifecycleEvent, Transition
from bringup.drivers.simulated import Fault, SimulatedGuest
from support.drivers import uuid_of
from support.hosts import ELSEWHERE, HOST, ArrangedHost, arranged, evacuation, instance, outcome_of

pytestmark = pytest.mark.anyio

STOPPED = instance(1, vm_state=VmState.STOPPED, power_state=PowerState.SHUTDOWN)


def event(number: int, transition: Transition = Transition.STOPPED) -> LifecycleEvent:
    return LifecycleEvent(uuid_of(number), transition)


@asynccontextmanager
async def watched(
    instances: Sequence[Instance], *, deadline_s: float = 30, **facts: Any
) -> AsyncIterator[tuple[ArrangedHost, LifecycleWatch]]:
    """Arrange a host whose events are watched from the moment its driver is initialized."""
    watch = LifecycleWatch(HOST, deadline_s=deadline_s)
    async with arranged(instances, on_event=watch.take, **facts) as host, anyio.create_task_group() as group:
        group.start_soon(watch.watch, host.host.executor)
        yield host, watch
        group.cancel_scope.cancel()


async def settle_all(host: ArrangedHost, watch: LifecycleWatch) -> None:
    await host.run()
    watch.all_settled()
    host.trace.calls.clear()


async def until_read(host: ArrangedHost, number: int, times: int = 1) -> None:
    """Wait until the record of an instance was read for an event so many times, and nothing more is being done."""
    with anyio.fail_after(60):
        while host.trace.names(uuid_of(number)).count("store.get_instance") < times:
            await anyio.lowlevel.checkpoint()
        await quiet(host)


async def quiet(host: ArrangedHost) -> None:
    """Wait until no call was begun for a while: what is awaited may be in a thread, which no event tells of."""
    calls = -1
    while calls < len(host.trace.calls):
        calls = len(host.trace.calls)
        for _ in range(3):
            await host.store.load_migrations(HOST, ["done"])
            await anyio.wait_all_tasks_blocked()


async def until_stopped(host: ArrangedHost, number: int) -> None:
    """Wait until a record says that its instance is stopped."""
    with anyio.fail_after(60):
        while True:
            record = await host.record(number)
            if record is not None and record.vm_state is VmState.STOPPED and record.task_state is None:
                return


async def test_a_guest_that_stops_by_itself_becomes_stopped() -> None:
    async with watched([instance(1)]) as (host, watch):
        await settle_all(host, watch)
        host.driver.guest_stops_itself(uuid_of(1))
        await until_stopped(host, 1)

        assert await host.record(1) == STOPPED


async def test_an_instance_that_is_to_end_with_its_guest_is_deleted() -> None:
    async with watched([instance(1, shutdown_terminate=True)]) as (host, watch):
        await settle_all(host, watch)
        host.driver.guest_stops_itself(uuid_of(1))
        with anyio.fail_after(60):
            while await host.record(1) is not None:
                pass

        assert host.power(1) is None


async def test_an_event_waits_until_its_instance_is_settled() -> None:
    async with watched([instance(1), instance(2)]) as (host, watch):
        hang = Fault(verb="plug_vifs", uuid=uuid_of(1), hang=True)
        host.driver.inject(hang)
        async with anyio.create_task_group() as group:
            group.start_soon(host.run)
            await host.driver.entered("plug_vifs", uuid_of(1))
            host.driver.guest_stops_itself(uuid_of(1))
            await quiet(host)
            while_it_was_worked_on = list(host.trace.names(uuid_of(1)))
            host.driver.lift(hang)
        assert "store.get_instance" not in while_it_was_worked_on
        assert await host.record(1) == instance(1)

        watch.settled(uuid_of(1))
        await until_stopped(host, 1)
        assert await host.record(1) == STOPPED


async def test_a_settled_instance_does_not_wait_for_the_others() -> None:
    async with watched([instance(1), instance(2)]) as (host, watch):
        await host.driver.init_host(HOST)
        watch.settled(uuid_of(1))
        watch.take(event(2))
        host.driver.hypervisor.stops_itself(uuid_of(1))
        watch.take(event(1))
        await until_stopped(host, 1)
        await quiet(host)

        assert host.trace.names(uuid_of(2)) == []


async def test_events_that_came_before_the_watch_began_are_not_lost() -> None:
    watch = LifecycleWatch(HOST, deadline_s=30)
    async with arranged([instance(1)], on_event=watch.take) as host:
        await host.run()
        host.driver.guest_stops_itself(uuid_of(1))
        watch.all_settled()
        async with anyio.create_task_group() as group:
            group.start_soon(watch.watch, host.host.executor)
            await until_stopped(host, 1)
            group.cancel_scope.cancel()


async def test_what_the_run_itself_does_to_a_guest_is_no_news() -> None:
    """Each reboot, stop and start is told by the hypervisor too."""
    records = [
        instance(1, task_state=TaskState.POWERING_OFF),
        instance(2, task_state=TaskState.REBOOT_PENDING_HARD),
        instance(3, task_state=TaskState.DELETING),
        instance(4, host=ELSEWHERE),
    ]
    async with watched(records, migrations=[evacuation(4)]) as (host, watch):
        await host.run()
        left = [await host.record(number) for number in (1, 2, 3, 4)]
        host.trace.calls.clear()
        watch.all_settled()
        for number in (1, 2, 3, 4):
            await until_read(host, number)

        assert host.trace.touched() == []
        assert [await host.record(number) for number in (1, 2, 3, 4)] == left


OFF = SimulatedGuest(uuid=uuid_of(1), name="guest-1", power_state=PowerState.SHUTDOWN)


@asynccontextmanager
async def started_by_the_run(**facts: Any) -> AsyncIterator[tuple[ArrangedHost, LifecycleWatch, Outcome]]:
    """Start a guest that was off, with a watch that is told what the run does."""
    watch = LifecycleWatch(HOST, deadline_s=30)
    told = {"on_event": watch.take, "resume_guests": True, **facts}
    async with arranged([instance(1)], guests=[OFF], **told) as host, anyio.create_task_group() as group:
        group.start_soon(watch.watch, host.host.executor)
        outcome = outcome_of(await host.run(), 1)
        await quiet(host)
        yield host, watch, outcome
        group.cancel_scope.cancel()


def reads(host: ArrangedHost) -> int:
    return host.trace.names(uuid_of(1)).count("store.get_instance")


async def test_the_event_of_a_start_by_the_run_itself_is_not_handled() -> None:
    async with started_by_the_run() as (host, watch, outcome):
        before = reads(host)
        watch.observe(InstanceEnded(outcome))
        watch.all_settled()
        await quiet(host)
        assert (outcome.did, reads(host)) == (Did.STARTED, before)

        host.driver.guest_stops_itself(uuid_of(1))
        await until_stopped(host, 1)


@pytest.mark.parametrize("transition", [Transition.PAUSED, Transition.STOPPED])
async def test_what_happens_to_a_guest_after_its_start_by_the_run_is_handled(transition: Transition) -> None:
    async with started_by_the_run() as (host, watch, outcome):
        before = reads(host)
        watch.take(event(1, transition))
        watch.observe(InstanceEnded(outcome))
        await until_read(host, 1, times=before + 2)


@pytest.mark.parametrize(
    "left",
    [
        {"vm_state": VmState.STOPPED},
        {"power_state": PowerState.SHUTDOWN},
        {"task_state": TaskState.POWERING_OFF},
    ],
)
async def test_the_event_of_a_start_is_handled_where_the_record_does_not_say_that_the_guest_runs(
    left: dict[str, Any],
) -> None:
    async with started_by_the_run() as (host, watch, outcome):
        before = reads(host)
        watch.observe(InstanceEnded(replace(outcome, instance=replace(instance(1), **left))))
        await until_read(host, 1, times=before + 1)


@pytest.mark.parametrize("task_state", [TaskState.REBUILDING, None], ids=["rebuilding", "reset-by-an-operator"])
async def test_a_guest_that_was_fenced_is_not_taken_for_one_that_stopped_by_itself(
    task_state: TaskState | None,
) -> None:
    record = instance(1, task_state=task_state, shutdown_terminate=True)
    async with watched([record], migrations=[evacuation(1, "accepted")]) as (host, watch):
        await settle_all(host, watch)
        await until_read(host, 1)

        assert host.power(1) is PowerState.SHUTDOWN
        assert await host.record(1) == record


@pytest.mark.parametrize(
    "transition", [Transition.STOPPED, Transition.PAUSED, Transition.SUSPENDED], ids=lambda t: t.value
)
async def test_an_event_that_is_no_longer_true_changes_nothing(transition: Transition) -> None:
    async with watched([instance(1)]) as (host, watch):
        await settle_all(host, watch)
        host.driver.emit(event(1, transition))
        await until_read(host, 1)

        assert host.trace.touched() == []
        assert await host.record(1) == instance(1)


async def test_an_event_of_an_instance_without_a_record_is_ignored() -> None:
    async with watched([instance(1)]) as (host, watch):
        await settle_all(host, watch)
        watch.take(event(7))
        await until_read(host, 7)

        assert host.trace.names(uuid_of(7)) == ["store.get_instance"]
        host.driver.guest_stops_itself(uuid_of(1))
        await until_stopped(host, 1)


async def test_an_event_of_an_instance_of_another_host_is_ignored() -> None:
    async with watched([instance(1, host=ELSEWHERE), instance(2)]) as (host, watch):
        await settle_all(host, watch)
        host.driver.guest_stops_itself(uuid_of(1))
        await until_read(host, 1)

        assert await host.record(1) == instance(1, host=ELSEWHERE)


@pytest.mark.parametrize(
    "error", [StoreError("the disk"), ValueError("a row that is no JSON"), None], ids=["store", "row", "hangs"]
)
async def test_a_record_that_cannot_be_read_costs_its_event_only(error: Exception | None) -> None:
    async with watched([instance(1), instance(2)], deadline_s=2.0) as (host, watch):
        await settle_all(host, watch)
        if error is None:
            host.trace.hang("store.get_instance", uuid=uuid_of(1))
        else:
            host.trace.fail("store.get_instance", error, uuid=uuid_of(1))
        host.driver.guest_stops_itself(uuid_of(1))
        host.driver.guest_stops_itself(uuid_of(2))
        await until_stopped(host, 2)

        assert await host.record(1) == instance(1)


async def test_events_of_one_instance_are_handled_one_by_one_in_their_order() -> None:
    async with watched([instance(1)]) as (host, watch):
        await settle_all(host, watch)
        hang = Fault(verb="get_info", uuid=uuid_of(1), hang=True)
        host.driver.inject(hang)
        looks = host.driver.count("get_info", uuid_of(1))
        watch.take(event(1, Transition.PAUSED))
        watch.take(event(1, Transition.RESUMED))
        await host.driver.entered("get_info", uuid_of(1), times=looks + 1)
        await quiet(host)
        reads_while_the_first_hung = host.trace.names(uuid_of(1)).count("store.get_instance")
        host.driver.lift(hang)
        await until_read(host, 1, times=2)

        assert reads_while_the_first_hung == 1


async def test_events_of_several_instances_are_handled_side_by_side_and_a_hung_one_costs_one_slot() -> None:
    numbers = range(1, 3 * AT_ONCE)
    async with watched([instance(number) for number in numbers]) as (host, watch):
        await settle_all(host, watch)
        looks = host.driver.count("get_info")
        hang = Fault(verb="get_info", uuid=uuid_of(1), hang=True)
        host.driver.inject(hang)
        for number in numbers:
            host.driver.guest_stops_itself(uuid_of(number))
        for number in numbers[1:]:
            await until_stopped(host, number)
        assert host.driver.count("get_info") > looks
        assert await host.record(1) == instance(1)

        host.driver.lift(hang)
        await until_stopped(host, 1)


async def test_no_more_events_are_handled_at_once_than_there_are_slots() -> None:
    numbers = range(1, 3 * AT_ONCE)
    async with watched([instance(number) for number in numbers]) as (host, watch):
        await settle_all(host, watch)
        looks = host.driver.count("get_info")
        hang = Fault(verb="get_info", hang=True)
        host.driver.inject(hang)
        for number in numbers:
            host.driver.guest_stops_itself(uuid_of(number))
        await host.driver.entered("get_info", times=looks + AT_ONCE)
        await quiet(host)
        at_once = host.driver.count("get_info") - looks
        host.driver.lift(hang)

        assert at_once == AT_ONCE
        for number in numbers:
            await until_stopped(host, number)


async def test_a_handling_that_hangs_is_given_up_and_the_next_event_is_handled() -> None:
    async with watched([instance(1)], deadline_s=2.0) as (host, watch):
        await settle_all(host, watch)
        looks = host.driver.count("get_info", uuid_of(1))
        host.driver.inject(Fault(verb="get_info", hang=True, times=1))
        watch.take(event(1, Transition.PAUSED))
        await host.driver.entered("get_info", uuid_of(1), times=looks + 1)
        host.driver.guest_stops_itself(uuid_of(1))
        await until_stopped(host, 1)


async def test_of_a_flood_of_one_instance_the_newest_events_are_kept() -> None:
    async with watched([instance(1)]) as (host, watch):
        await host.run()
        for _ in range(10 * KEPT_AN_INSTANCE):
            watch.take(event(1, Transition.PAUSED))
        host.driver.guest_stops_itself(uuid_of(1))
        host.trace.calls.clear()
        watch.all_settled()
        await until_stopped(host, 1)
        await quiet(host)

        assert host.trace.names(uuid_of(1)).count("store.get_instance") == KEPT_AN_INSTANCE


async def test_an_event_after_the_watch_ended_is_harmless() -> None:
    async with watched([instance(1)]) as (host, watch):
        await settle_all(host, watch)
    watch.take(event(1))
    watch.settled(uuid_of(1))
    watch.all_settled()
