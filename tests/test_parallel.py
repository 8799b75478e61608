"""Many instances at once: how many, in which order, and what one that hangs costs the others."""

from collections import deque

import anyio
import pytest

from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.states import TaskState
from bringup.drivers.simulated import Fault, Verb
from support.drivers import uuid_of
from support.hosts import ArrangedHost, arranged, instance, limits, outcome_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("concurrency", [1, 2, 3, 7])
async def test_no_more_than_the_limit_are_worked_on_at_once_and_no_fewer(concurrency: int) -> None:
    instances = [instance(number) for number in range(1, 11)]
    async with arranged(instances, limits=limits(concurrency=concurrency)) as host:
        hang = Fault(verb="plug_vifs", hang=True)
        host.driver.inject(hang)
        async with anyio.create_task_group() as group:
            group.start_soon(host.run)
            with anyio.fail_after(30):
                await host.driver.entered("plug_vifs", times=concurrency)
            await anyio.wait_all_tasks_blocked()
            entered = host.driver.count("plug_vifs")
            running, waiting = len(host.progress.running), host.progress.snapshot().waiting
            host.driver.lift(hang)

        assert (entered, running, waiting) == (concurrency, concurrency, 10 - concurrency)
        assert host.progress.done == 10


async def test_a_slot_that_is_free_is_taken_at_once() -> None:
    """A batch would wait for its slowest."""
    async with arranged([instance(number) for number in range(1, 6)], limits=limits(concurrency=2)) as host:
        hang = Fault(verb="plug_vifs", uuid=uuid_of(1), hang=True)
        host.driver.inject(hang)
        async with anyio.create_task_group() as group:
            group.start_soon(host.run)
            with anyio.fail_after(30):
                await host.driver.entered("ensure_filtering_rules_for_instance", uuid_of(5))
            while_it_hung = host.driver.count("plug_vifs")
            host.driver.lift(hang)

        assert while_it_hung == 5
        assert host.reports[0].outcomes[-1].uuid == uuid_of(1)


async def test_those_that_take_longest_begin_first() -> None:
    instances = [
        instance(1),
        instance(2, task_state=TaskState.POWERING_ON),
        instance(3, task_state=TaskState.POWERING_OFF),
        instance(4, task_state=TaskState.REBOOT_STARTED_HARD),
    ]
    async with arranged(instances, limits=limits(concurrency=2)) as host:
        await host.run()

        assert host.progress.began_in_order == [uuid_of(number) for number in (3, 4, 2, 1)]


WAITED_FOR: list[tuple[TaskState, Verb]] = [(TaskState.POWERING_OFF, "power_off"), (TaskState.REBOOT_PENDING, "reboot")]


@pytest.mark.parametrize(("task_state", "verb"), WAITED_FOR, ids=["stop", "reboot"])
@pytest.mark.parametrize("concurrency", [1, 2, 5])
async def test_guests_that_ignore_a_clean_shutdown_do_not_hold_the_slots_from_the_others(
    task_state: TaskState, verb: Verb, concurrency: int
) -> None:
    """A tenant may have as many of them as it likes, and images that ask for the whole deadline."""
    theirs = [instance(number, project_id="theirs", task_state=task_state) for number in range(1, 21)]
    others = [instance(number, project_id="ours") for number in range(21, 41)]
    async with arranged([*theirs, *others], limits=limits(concurrency=concurrency)) as host:
        hangs = [Fault(verb=verb, uuid=one.uuid, hang=True) for one in theirs]
        for hang in hangs:
            host.driver.inject(hang)
        async with anyio.create_task_group() as group:
            group.start_soon(host.run)
            with anyio.fail_after(30):
                while host.progress.done < len(others):
                    await anyio.wait_all_tasks_blocked()
            ended = set(host.progress.began_in_order) - host.progress.running.keys()
            for hang in hangs:
                host.driver.lift(hang)

        assert ended == {one.uuid for one in others}
        assert host.progress.done == 40


async def test_of_guests_that_ignore_a_clean_shutdown_no_project_keeps_another_waiting() -> None:
    many = [instance(number, project_id="many", task_state=TaskState.POWERING_OFF) for number in range(1, 31)]
    few = [instance(number, project_id="few", task_state=TaskState.POWERING_OFF) for number in range(31, 34)]
    async with arranged([*many, *few], limits=limits(concurrency=4)) as host:
        hangs = [Fault(verb="power_off", uuid=one.uuid, hang=True) for one in many]
        for hang in hangs:
            host.driver.inject(hang)
        async with anyio.create_task_group() as group:
            group.start_soon(host.run)
            with anyio.fail_after(30):
                while host.progress.done < len(few):
                    await anyio.wait_all_tasks_blocked()
            for hang in hangs:
                host.driver.lift(hang)

        assert [outcome.uuid for outcome in host.reports[0].outcomes[: len(few)]] == [one.uuid for one in few]


async def test_once_nobody_else_waits_every_slot_is_used() -> None:
    theirs = [instance(number, project_id="theirs", task_state=TaskState.POWERING_OFF) for number in range(1, 9)]
    async with arranged(theirs, limits=limits(concurrency=4)) as host:
        hang = Fault(verb="power_off", hang=True)
        host.driver.inject(hang)
        async with anyio.create_task_group() as group:
            group.start_soon(host.run)
            with anyio.fail_after(30):
                await host.driver.entered("power_off", times=4)
            host.driver.lift(hang)

        assert host.progress.done == 8


async def test_one_that_hangs_costs_its_own_slot_for_its_own_deadline() -> None:
    quick = limits(concurrency=2, instance_deadline=2.0)
    async with arranged([instance(number) for number in range(1, 9)], limits=quick) as host:
        host.driver.inject(Fault(verb="plug_vifs", uuid=uuid_of(4), hang=True))
        with anyio.fail_after(30):
            result = await host.run()

        hung = outcome_of(result, 4)
        assert (result.count(Kind.INITIALIZED), result.count(Kind.FAILED)) == (7, 1)
        assert hung.problem is not None
        assert (hung.problem.action, hung.problem.error) == ("plug_vifs", "DeadlineExceeded")
        assert hung.slowest is not None
        assert hung.slowest[0] == "plug_vifs"
        assert hung.because == ("vifs",)
        assert host.reports == [result]


async def test_the_deadline_of_an_instance_begins_with_its_slot_not_in_the_queue() -> None:
    """Leases that timed out in the queue stopped a whole cloud (field notes, F14)."""
    deadline_s = 2.0
    one_by_one = limits(concurrency=1, instance_deadline=deadline_s)
    async with arranged([instance(number) for number in range(1, 4)], limits=one_by_one) as host:
        for number in (1, 2):
            host.driver.inject(Fault(verb="get_info", uuid=uuid_of(number), hang=True))
        with anyio.fail_after(30):
            result = await host.run()

        assert result.took_s > 2 * deadline_s
        assert [outcome_of(result, number).kind for number in (1, 2)] == [Kind.FAILED] * 2
        assert all(outcome_of(result, number).took_s >= deadline_s for number in (1, 2))
        assert outcome_of(result, 3).kind is Kind.INITIALIZED
        # Each one's time begins when that of the one before has ended.
        assert sum(outcome.took_s for outcome in result.outcomes) <= result.took_s


async def test_all_of_them_hanging_does_not_keep_the_run_from_its_end() -> None:
    quick = limits(concurrency=3, instance_deadline=0.2)
    async with arranged([instance(number) for number in range(1, 7)], limits=quick) as host:
        host.driver.inject(Fault(verb="get_info", hang=True))
        with anyio.fail_after(30):
            result = await host.run()

        assert result.count(Kind.FAILED) == 6
        assert host.reports == [result]


async def test_a_store_that_hangs_is_bounded_by_the_deadline_too() -> None:
    quick = limits(instance_deadline=2.0)
    async with arranged([instance(1, task_state=TaskState.RESIZE_PREP), instance(2)], limits=quick) as host:
        host.trace.hang("store.save")
        with anyio.fail_after(30):
            result = await host.run()

        problem = outcome_of(result, 1).problem
        assert problem is not None
        assert (problem.action, problem.error) == ("save", "DeadlineExceeded")
        assert outcome_of(result, 2).kind is Kind.INITIALIZED


async def test_outcomes_stand_in_the_order_in_which_instances_ended() -> None:
    async with arranged([instance(number) for number in (1, 2, 3)]) as host:
        hangs = {n: Fault(verb="plug_vifs", uuid=uuid_of(n), hang=True) for n in (1, 2, 3)}
        for hang in hangs.values():
            host.driver.inject(hang)
        async with anyio.create_task_group() as group:
            group.start_soon(host.run)
            await host.driver.entered("plug_vifs", times=3)
            for number in (2, 3, 1):
                host.driver.lift(hangs[number])
                await _until_done(host, number)

        assert [outcome.uuid for outcome in host.reports[0].outcomes] == [uuid_of(n) for n in (2, 3, 1)]


async def _until_done(host: ArrangedHost, number: int) -> None:
    with anyio.fail_after(30):
        await host.driver.entered("ensure_filtering_rules_for_instance", uuid_of(number))
        await anyio.wait_all_tasks_blocked()


async def test_waiting_instances_are_no_tasks() -> None:
    tasks: deque[int] = deque(maxlen=1)
    async with arranged([instance(number) for number in range(1, 301)], limits=limits(concurrency=8)) as host:
        before = len(anyio.get_running_tasks())
        host.trace.before = lambda _number: tasks.append(len(anyio.get_running_tasks()))
        result = await host.run()

        assert result.count(Kind.INITIALIZED) == 300
        assert tasks[0] <= before + 8


async def test_slots_may_come_while_instances_wait_for_one() -> None:
    async with arranged([instance(number) for number in range(1, 7)], slots=1) as host:
        hang = Fault(verb="plug_vifs", hang=True)
        host.driver.inject(hang)
        async with anyio.create_task_group() as group:
            group.start_soon(host.run)
            with anyio.fail_after(30):
                await host.driver.entered("plug_vifs", times=1)
                host.host.capacity.resize(4)
                await host.driver.entered("plug_vifs", times=4)
            await anyio.wait_all_tasks_blocked()
            entered = host.driver.count("plug_vifs")
            host.driver.lift(hang)

        assert entered == 4
        assert host.progress.done == 6


async def test_slots_that_are_taken_away_are_those_that_get_free() -> None:
    async with arranged([instance(number) for number in range(1, 7)], slots=4) as host:
        hangs = [Fault(verb="plug_vifs", uuid=uuid_of(number), hang=True) for number in range(1, 7)]
        for hang in hangs:
            host.driver.inject(hang)
        async with anyio.create_task_group() as group:
            group.start_soon(host.run)
            with anyio.fail_after(30):
                await host.driver.entered("plug_vifs", times=4)
                host.host.capacity.resize(1)
                began = list(host.progress.running)
                for uuid in began[:3]:
                    host.driver.lift(next(hang for hang in hangs if hang.uuid == uuid))
                while host.progress.done < 3:
                    await anyio.wait_all_tasks_blocked()
            left = list(host.progress.running)
            for hang in hangs:
                host.driver.lift(hang)

        assert left == began[3:]
        assert host.progress.done == 6
