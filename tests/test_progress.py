"""How far a run is: counts, rate, and when it will be over."""

import time

import anyio
import pytest

from bringup.daemon.decisions import Step
from bringup.daemon.init_instance import LOOK
from bringup.daemon.outcomes import Kind, Outcome, Problem
from bringup.daemon.progress import Progress
from bringup.drivers.simulated import Fault
from support.drivers import uuid_of
from support.hosts import arranged, evacuation, instance, limits


def outcome(number: int, kind: Kind = Kind.INITIALIZED, **facts: object) -> Outcome:
    return Outcome(uuid=uuid_of(number), kind=kind, because=(), took_s=1, **facts)  # type: ignore[arg-type]  # checked in Outcome


def settled(*kinds: Kind, total: int) -> Progress:
    progress = Progress()
    progress.work_found(total)
    for number, kind in enumerate(kinds):
        progress.instance_began(uuid_of(number))
        progress.instance_ended(outcome(number, kind))
    return progress


def test_it_counts_what_is_done_what_runs_and_what_waits() -> None:
    progress = settled(Kind.INITIALIZED, Kind.FAILED, Kind.FAILED, Kind.SKIPPED, total=10)
    progress.instance_began(uuid_of(7))

    assert (progress.total, progress.done, len(progress.running), progress.waiting) == (10, 4, 1, 5)
    assert progress.kinds == {Kind.INITIALIZED: 1, Kind.FAILED: 2, Kind.SKIPPED: 1}


def test_it_keeps_the_outcomes_that_somebody_must_look_at() -> None:
    progress = settled(Kind.INITIALIZED, Kind.FAILED, Kind.SUPERSEDED, Kind.SKIPPED, total=4)

    assert [one.kind for one in progress.outcomes] == [Kind.FAILED, Kind.SUPERSEDED]


def test_it_counts_instances_with_warnings_not_warnings() -> None:
    progress = Progress()
    warning = Problem("finish_revert_migration", "DriverError", "no")
    progress.instance_ended(outcome(1, warnings=(warning, warning)))
    progress.instance_ended(outcome(2))

    assert progress.warnings == 1


def test_it_knows_what_is_being_done_and_which_takes_longest() -> None:
    progress = Progress()
    progress.instance_began(uuid_of(1))
    progress.instance_began(uuid_of(2))
    progress.running[uuid_of(2)].since -= 60
    progress.action_began(uuid_of(1), Step("vifs", LOOK.action))
    progress.action_began(uuid_of(99), LOOK)

    assert progress.slowest is progress.running[uuid_of(2)]
    assert progress.running[uuid_of(1)].doing == "get_info"
    assert uuid_of(99) not in progress.running


def test_rate_and_rest_are_unknown_before_the_first_is_done() -> None:
    progress = settled(total=10)

    assert (progress.rate(), progress.eta_s()) == (None, None)
    assert (Progress().rate(), Progress().slowest) == (None, None)


def test_rate_and_rest_follow_from_what_was_done() -> None:
    progress = settled(*[Kind.INITIALIZED] * 20, total=100)
    progress.work_began = time.monotonic() - 10
    progress.ended = progress.work_began + 10

    assert progress.rate() == pytest.approx(2)
    assert progress.eta_s() == pytest.approx(40)


def test_nothing_is_left_when_all_are_done() -> None:
    progress = settled(Kind.INITIALIZED, total=1)
    progress.run_ended()

    assert (progress.eta_s(), progress.waiting, progress.phase) == (0, 0, "done")


def test_no_rate_comes_of_no_time() -> None:
    progress = settled(Kind.INITIALIZED, total=1)
    progress.ended = progress.work_began

    assert progress.rate() is None


@pytest.mark.anyio
async def test_a_real_run_is_counted_to_its_end() -> None:
    async with arranged([instance(number) for number in (1, 2, 3)]) as host:
        host.driver.inject(Fault(verb="get_info", uuid=uuid_of(2), error="DriverError"))
        await host.run()

        progress = host.progress
        assert (progress.done, progress.total, progress.waiting, progress.running) == (3, 3, 0, {})
        assert progress.kinds == {Kind.INITIALIZED: 2, Kind.FAILED: 1}


@pytest.mark.anyio
async def test_what_came_back_from_an_evacuation_does_not_seem_to_run_while_it_waits() -> None:
    instances = [instance(number) for number in (1, 2, 3)]
    async with arranged(instances, migrations=[evacuation(3)], limits=limits(concurrency=1)) as host:
        hang = Fault(verb="plug_vifs", uuid=uuid_of(1), hang=True)
        host.driver.inject(hang)
        async with anyio.create_task_group() as group:
            group.start_soon(host.run)
            await host.driver.entered("plug_vifs", uuid_of(1))
            running, waiting = list(host.progress.running), host.progress.waiting
            host.driver.lift(hang)

        assert (running, waiting) == ([uuid_of(1)], 2)
