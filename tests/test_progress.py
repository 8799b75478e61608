"""How far a run is: counts, rate, and when it will be over."""

import time

import anyio
import pytest

from bringup.daemon.decisions.outcomes import Kind, Outcome, Problem
from bringup.daemon.decisions.rules import Step
from bringup.daemon.decisions.run_events import (
    ActionBegan,
    ActionEnded,
    InstanceBegan,
    InstanceEnded,
    PhaseBegan,
    RunBegan,
    RunEnded,
    WorkFound,
)
from bringup.daemon.recovery.init_instance import LOOK
from bringup.daemon.status.progress import Progress
from bringup.daemon.status.snapshot import headline
from bringup.drivers.simulated import Fault
from support.drivers import uuid_of
from support.hosts import arranged, evacuation, instance, limits


def outcome(number: int, kind: Kind = Kind.INITIALIZED, **facts: object) -> Outcome:
    return Outcome(uuid=uuid_of(number), kind=kind, because=(), took_s=1, **facts)  # type: ignore[arg-type]  # checked in Outcome


def settled(*kinds: Kind, total: int) -> Progress:
    progress = Progress()
    progress.observe(WorkFound(total))
    for number, kind in enumerate(kinds):
        progress.observe(InstanceBegan(uuid_of(number)))
        progress.observe(InstanceEnded(outcome(number, kind)))
    return progress


def test_it_counts_what_is_done_what_runs_and_what_waits() -> None:
    progress = settled(Kind.INITIALIZED, Kind.FAILED, Kind.FAILED, Kind.SKIPPED, total=10)
    progress.observe(InstanceBegan(uuid_of(7)))
    now = progress.snapshot()

    assert (now.total, now.done, len(now.running), now.waiting) == (10, 4, 1, 5)
    assert now.counts == {
        Kind.INITIALIZED: 1,
        Kind.SKIPPED: 1,
        Kind.FAILED: 2,
        Kind.SUPERSEDED: 0,
        Kind.HELD: 0,
        Kind.DEFERRED: 0,
    }


def test_what_is_paused_is_not_idle_unless_an_instance_is_worked_on() -> None:
    now_s = 100.0
    progress = Progress(lambda: now_s)
    progress.observe(PhaseBegan("instances"))
    progress.observe(WorkFound(2))
    progress.pause("10:00 UTC", "10:30 UTC")
    now_s += 10
    # Before the run has ended, what hangs is found whether starts are paused or not.
    assert progress.snapshot().idle_s == 10
    progress.observe(RunEnded())
    now_s += 1000
    assert (progress.snapshot().idle_s, progress.snapshot().paused_until) == (0, "10:30 UTC")
    assert headline(progress.snapshot()).startswith("starts paused until 10:30 UTC, ")
    progress.observe(InstanceBegan(uuid_of(1)))
    now_s += 50
    assert progress.snapshot().idle_s == 1050
    # Its end is an advance: what was paused has its whole time again.
    progress.pause("", "")
    now_s += 7
    assert (progress.snapshot().idle_s, progress.snapshot().paused_until) == (7, "")


def test_an_instance_that_was_held_and_released_counts_once() -> None:
    progress = settled(Kind.HELD, Kind.SKIPPED, total=2)
    progress.observe(InstanceEnded(outcome(0, Kind.INITIALIZED)))

    assert (progress.done, progress.snapshot().waiting) == (2, 0)
    assert +progress.kinds == {Kind.INITIALIZED: 1, Kind.SKIPPED: 1}


def test_it_counts_instances_with_warnings_not_warnings() -> None:
    progress = Progress()
    warning = Problem("finish_revert_migration", "DriverError", "no")
    progress.observe(InstanceEnded(outcome(1, warnings=(warning, warning))))
    progress.observe(InstanceEnded(outcome(2)))

    assert progress.warnings == 1


def test_it_knows_what_is_being_done_and_which_takes_longest() -> None:
    progress = Progress()
    progress.observe(InstanceBegan(uuid_of(1)))
    progress.observe(InstanceBegan(uuid_of(2)))
    progress.running[uuid_of(2)].since -= 60
    progress.observe(ActionBegan(uuid_of(1), Step("vifs", LOOK.action)))
    progress.observe(ActionBegan(uuid_of(99), LOOK))

    now = progress.snapshot()
    assert [one.uuid for one in now.running] == [uuid_of(2), uuid_of(1)]
    assert now.slowest is not None
    assert now.slowest.age_s >= 60
    assert now.running[1].verb == "get_info"


def test_what_ended_is_counted_and_what_only_began_is_not() -> None:
    progress = Progress()
    progress.observe(PhaseBegan("placement"))
    before = progress.advances
    progress.observe(PhaseBegan("placement", "no answer yet"))
    progress.observe(InstanceBegan(uuid_of(1)))
    progress.observe(ActionBegan(uuid_of(1), LOOK))
    assert progress.advances == before

    progress.observe(ActionEnded(uuid_of(1), LOOK))
    progress.observe(InstanceEnded(outcome(1)))
    assert progress.snapshot().advances == before + 2


def test_it_knows_which_run_it_is_and_what_ended_the_start() -> None:
    progress = Progress()
    progress.observe(RunBegan(uuid_of(9), 2))
    progress.start_failed("no Placement")

    now = progress.snapshot()
    assert (now.run_id, now.attempt, now.phase, now.error) == (uuid_of(9), 2, "failed", "no Placement")


def test_rate_and_rest_are_unknown_before_the_first_is_done() -> None:
    progress = settled(total=10)

    assert (progress.rate(), progress.snapshot().eta_s) == (None, None)
    assert (Progress().rate(), Progress().snapshot().slowest) == (None, None)


def test_rate_and_rest_follow_from_what_was_done() -> None:
    progress = settled(*[Kind.INITIALIZED] * 20, total=100)
    progress.work_began = time.monotonic() - 10
    progress.ended = progress.work_began + 10

    assert progress.rate() == pytest.approx(2)
    assert progress.snapshot().eta_s == pytest.approx(40)


def test_nothing_is_left_when_all_are_done() -> None:
    progress = settled(Kind.INITIALIZED, total=1)
    progress.observe(RunEnded())

    now = progress.snapshot()
    assert (now.eta_s, now.waiting, now.phase, now.percent) == (0, 0, "done", 100)


def test_no_rate_comes_of_no_time() -> None:
    progress = settled(Kind.INITIALIZED, total=1)
    progress.ended = progress.work_began

    assert progress.rate() is None


@pytest.mark.anyio
async def test_a_real_run_is_counted_to_its_end() -> None:
    async with arranged([instance(number) for number in (1, 2, 3)]) as host:
        host.driver.inject(Fault(verb="get_info", uuid=uuid_of(2), error="DriverError"))
        await host.run()

        now = host.progress.snapshot()
        assert (now.done, now.total, now.waiting, now.running) == (3, 3, 0, ())
        assert (now.run_id, now.attempt) == (host.host.run_id, 1)
        assert host.progress.kinds == {Kind.INITIALIZED: 2, Kind.FAILED: 1}


@pytest.mark.anyio
async def test_what_came_back_from_an_evacuation_does_not_seem_to_run_while_it_waits() -> None:
    instances = [instance(number) for number in (1, 2, 3)]
    async with arranged(instances, migrations=[evacuation(3)], limits=limits(concurrency=1)) as host:
        hang = Fault(verb="plug_vifs", uuid=uuid_of(1), hang=True)
        host.driver.inject(hang)
        async with anyio.create_task_group() as group:
            group.start_soon(host.run)
            await host.driver.entered("plug_vifs", uuid_of(1))
            running, waiting = list(host.progress.running), host.progress.snapshot().waiting
            host.driver.lift(hang)

        assert (running, waiting) == ([uuid_of(1)], 2)
