"""A guest that hangs costs its own events, not those of others; and nothing is kept of what was handled."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest
from structlog.testing import capture_logs

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.recovery.lifecycle_events import AT_ONCE, KEPT_AN_INSTANCE, LifecycleWatch
from bringup.drivers.base import LifecycleEvent, Transition
from bringup.drivers.simulated import Fault
from support.drivers import uuid_of
from support.hosts import HOST, ArrangedHost, arranged, instance

pytestmark = pytest.mark.anyio

DEADLINE_S = 0.3
HANGING = range(1, 1 + AT_ONCE)
HEALTHY = 1 + AT_ONCE
STOPPED = instance(HEALTHY, vm_state=VmState.STOPPED, power_state=PowerState.SHUTDOWN)


def event(number: int, transition: Transition) -> LifecycleEvent:
    return LifecycleEvent(uuid_of(number), transition)


@asynccontextmanager
async def watched(instances: Sequence[Instance]) -> AsyncIterator[tuple[ArrangedHost, LifecycleWatch]]:
    """Arrange a host that has come back and whose events are handled."""
    watch = LifecycleWatch(HOST, deadline_s=DEADLINE_S)
    async with arranged(instances, on_event=watch.take) as host, anyio.create_task_group() as group:
        await host.run()
        watch.all_settled()
        host.trace.calls.clear()
        group.start_soon(watch.watch, host.host.executor)
        with anyio.fail_after(30):
            yield host, watch
        group.cancel_scope.cancel()


def count_tracked(watch: LifecycleWatch) -> tuple[int, int, int]:
    """Count what is kept of instances."""
    return len(watch._waiting), len(watch._busy), len(watch._settled)


async def until_idle(host: ArrangedHost, watch: LifecycleWatch) -> None:
    while watch._waiting or watch._busy:
        await host.store.load_migrations(HOST, ["done"])


def reads(host: ArrangedHost, number: int) -> int:
    """Count the reads that begin the handling of an event; one more follows a look that hung."""
    names = host.trace.names(uuid_of(number))
    return names.count("store.get_instance") - names.count("driver.get_info")


async def test_after_a_handling_that_hung_only_the_last_event_of_that_guest_is_handled() -> None:
    async with watched([instance(1)]) as (host, watch):
        host.driver.inject(Fault(verb="get_info", uuid=uuid_of(1), hang=True))
        with capture_logs() as logs:
            for _ in range(KEPT_AN_INSTANCE - 1):
                watch.take(event(1, Transition.PAUSED))
            watch.take(event(1, Transition.STOPPED))
            await until_idle(host, watch)

    assert reads(host, 1) == 2
    failed = [line for line in logs if line["event"] == "lifecycle.failed"]
    assert [line["error"] for line in failed] == ["DeadlineExceeded"] * 2


async def test_the_last_event_says_the_outcome_of_a_guest_that_hung_once() -> None:
    async with watched([instance(1)]) as (host, watch):
        host.driver.inject(Fault(verb="get_info", uuid=uuid_of(1), hang=True, times=1))
        for transition in (Transition.PAUSED, Transition.RESUMED, Transition.PAUSED):
            watch.take(event(1, transition))
        host.driver.guest_stops_itself(uuid_of(1))
        await until_idle(host, watch)

        assert await host.record(1) == instance(1, vm_state=VmState.STOPPED, power_state=PowerState.SHUTDOWN)


async def test_a_record_that_hangs_counts_as_a_handling_that_hung() -> None:
    async with watched([instance(1)]) as (host, watch):
        host.trace.hang("store.get_instance", uuid=uuid_of(1))
        for _ in range(KEPT_AN_INSTANCE):
            watch.take(event(1, Transition.PAUSED))
        await until_idle(host, watch)

        assert host.trace.names(uuid_of(1)).count("store.get_instance") == 2


async def test_where_every_slot_hangs_others_wait_for_two_deadlines_at_most_and_not_for_all_events() -> None:
    async with watched([instance(number) for number in (*HANGING, HEALTHY)]) as (host, watch):
        for number in HANGING:
            host.driver.inject(Fault(verb="get_info", uuid=uuid_of(number), hang=True))
            for _ in range(KEPT_AN_INSTANCE):
                watch.take(event(number, Transition.PAUSED))
        host.driver.guest_stops_itself(uuid_of(HEALTHY))
        while await host.record(HEALTHY) != STOPPED:
            pass
        await until_idle(host, watch)

        assert [reads(host, number) for number in HANGING] == [2] * AT_ONCE


async def test_handlings_that_end_in_time_are_all_done() -> None:
    async with watched([instance(1)]) as (host, watch):
        for _ in range(KEPT_AN_INSTANCE):
            watch.take(event(1, Transition.PAUSED))
        await until_idle(host, watch)

        assert host.trace.names(uuid_of(1)).count("store.get_instance") == KEPT_AN_INSTANCE


async def test_guests_that_never_cease_to_make_events_keep_no_slot_from_the_others() -> None:
    async with watched([instance(number) for number in (*HANGING, HEALTHY)]) as (host, watch):
        handled = 0

        def one_more(_number: int) -> None:
            # Each call for one of them makes the next event of all of them: they are never done.
            nonlocal handled
            handled += 1
            if handled < 10_000:
                for number in HANGING:
                    watch.take(event(number, Transition.PAUSED))

        host.trace.before = one_more
        for number in HANGING:
            watch.take(event(number, Transition.PAUSED))
        host.driver.guest_stops_itself(uuid_of(HEALTHY))
        with anyio.fail_after(30):
            while await host.record(HEALTHY) != STOPPED:
                pass
        before_it, handled = handled, 10_000
        await until_idle(host, watch)

    assert before_it < 1000


async def test_nothing_is_kept_of_instances_whose_events_were_handled() -> None:
    numbers = range(1, 3 * AT_ONCE)
    watch = LifecycleWatch(HOST, deadline_s=DEADLINE_S)
    async with arranged([instance(number) for number in numbers], on_event=watch.take) as host:
        await host.run()
        for number in numbers:
            watch.take(event(number, Transition.PAUSED))
            watch.settled(uuid_of(number))
        # One without a record, one that fails, one that hangs.
        watch.take(event(99, Transition.STOPPED))
        host.driver.inject(Fault(verb="get_info", uuid=uuid_of(1), error="DriverError", message="busy"))
        host.driver.inject(Fault(verb="get_info", uuid=uuid_of(2), hang=True))
        assert count_tracked(watch) == (len(numbers) + 1, len(numbers), len(numbers))
        async with anyio.create_task_group() as group:
            group.start_soon(watch.watch, host.host.executor)
            watch.all_settled()
            with anyio.fail_after(30):
                await until_idle(host, watch)
            group.cancel_scope.cancel()

        assert count_tracked(watch) == (0, 0, 0)


async def test_what_is_being_done_for_an_event_when_the_watch_ends_is_finished() -> None:
    hang = Fault(verb="power_off", uuid=uuid_of(1), hang=True)
    async with arranged([instance(1), instance(2)]) as host:
        watch = LifecycleWatch(HOST, deadline_s=30)
        await host.run()
        watch.all_settled()
        host.driver.inject(hang)
        async with anyio.create_task_group() as group:
            group.start_soon(watch.watch, host.host.executor)
            host.driver.hypervisor.stops_itself(uuid_of(1))
            watch.take(event(1, Transition.STOPPED))
            await host.driver.entered("power_off", uuid_of(1))
            assert (record := await host.record(1)) is not None
            assert record.task_state is TaskState.POWERING_OFF
            # One more of it comes too late, as everything does from now on.
            watch.take(event(1, Transition.STOPPED))
            group.cancel_scope.cancel()
            host.driver.lift(hang)

        assert await host.record(1) == instance(1, vm_state=VmState.STOPPED, power_state=PowerState.SHUTDOWN)


async def test_a_guest_that_hangs_does_not_hold_the_end_of_the_watch_up() -> None:
    async with arranged([instance(1)]) as host:
        watch = LifecycleWatch(HOST, deadline_s=30, finish_s=0.1)
        await host.run()
        watch.all_settled()
        host.driver.inject(Fault(verb="power_off", uuid=uuid_of(1), hang=True))
        with anyio.fail_after(30), capture_logs() as lines:
            async with anyio.create_task_group() as group:
                group.start_soon(watch.watch, host.host.executor)
                host.driver.hypervisor.stops_itself(uuid_of(1))
                watch.take(event(1, Transition.STOPPED))
                await host.driver.entered("power_off", uuid_of(1))
                group.cancel_scope.cancel()

    assert [line["event"] for line in lines] == ["lifecycle.interrupted"]
