"""A run of a host whose clock is not set yet: what depends on the time away waits, and nothing else does."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.policies import ResumePolicy
from bringup.daemon.decisions.resume_policy import Resuming
from bringup.daemon.decisions.states import PowerState
from bringup.daemon.recovery.deferred_instances import deferred, look_again
from bringup.daemon.recovery.init_host import init_host
from bringup.daemon.storage.alive import Alive
from bringup.daemon.storage.boot import CurrentBoot
from bringup.drivers.needs import NeedKind
from support.hosts import ArrangedHost, arranged, guest, instance, outcome_of

pytestmark = pytest.mark.anyio

OFF = PowerState.SHUTDOWN
LIMIT = Resuming(ResumePolicy(guests="on_host_boot", max_downtime=300))


@dataclass
class Time:
    """Clocks, and whether a time service has set the one on the wall."""

    now: float = 1_800_000_000.0
    asked_until_set: int = 0
    """How often it is asked before it is."""
    asked: int = field(default=0)

    def is_set(self) -> bool:
        self.asked += 1
        return self.asked > self.asked_until_set

    def alive(self, directory: Path, boot: int) -> Alive:
        return Alive(
            directory=directory,
            boot=CurrentBoot(boot_id=f"boot-{boot}"),
            is_clock_set=self.is_set,
            now=lambda: self.now,
            boot_s=lambda: 10.0,
        )


def was_up(directory: Path, away_s: float) -> Time:
    """Build a host that was up, with a clock that was set, and that has restarted."""
    time = Time()
    time.alive(directory, 1).write(is_kept=True)
    time.now += away_s
    return time


def has(host: ArrangedHost, *, alive: Alive, clock_wait_s: float = 0.0) -> None:
    object.__setattr__(host.host, "alive", alive)
    policy = replace(host.host.resuming.policy, wait_for_clock=clock_wait_s)
    object.__setattr__(host.host, "resuming", Resuming(policy))


@pytest.mark.parametrize(("away_s", "starts"), [(60.0, True), (3600.0, False)])
async def test_a_guest_whose_downtime_is_unknown_waits_for_the_clock_and_is_judged_then(
    tmp_path: Path, away_s: float, *, starts: bool
) -> None:
    time = was_up(tmp_path, away_s)
    time.asked_until_set = 1_000_000
    unlimited = instance(2, metadata={"bringup:max_downtime": "0"})
    resuming = Resuming(ResumePolicy(guests="on_host_boot", max_downtime=300, instance_policy="decides"))
    guests = [guest(1, OFF), guest(2, OFF)]
    async with arranged([instance(1), unlimited], guests=guests, resuming=resuming) as host:
        has(host, alive=time.alive(tmp_path, 2))
        brought = await init_host(host.start)

        outcome = outcome_of(brought.result, 1)
        assert (outcome.kind, outcome.because) == (Kind.DEFERRED, ("vifs", "clock_not_set"))
        assert [need.kind for need in outcome.needs] == [NeedKind.CLOCK]
        assert await host.record(1) == instance(1)
        assert (host.power(1), host.power(2)) == (OFF, PowerState.RUNNING)

        brought = await look_again(brought, deferred(brought))
        assert outcome_of(brought.result, 1).kind is Kind.DEFERRED

        time.asked_until_set = 0
        brought = await look_again(brought, deferred(brought))
        assert outcome_of(brought.result, 1).because[-1] == ("ran_before" if starts else "away_too_long")
        assert host.power(1) is (PowerState.RUNNING if starts else OFF)


async def test_a_run_waits_a_while_for_the_clock_where_it_matters(tmp_path: Path) -> None:
    time = was_up(tmp_path, 60)
    time.asked_until_set = 3
    async with arranged([instance(1)], guests=[guest(1, OFF)], resuming=LIMIT) as host:
        has(host, alive=time.alive(tmp_path, 2), clock_wait_s=60)
        result = await host.run()

        assert outcome_of(result, 1).because[-1] == "ran_before"
        assert any(phase == "records" for phase, _ in host.progress.phases)


async def test_no_run_waits_for_a_clock_that_does_not_matter(tmp_path: Path) -> None:
    time = was_up(tmp_path, 60)
    time.asked_until_set = 1_000_000
    resuming = Resuming(ResumePolicy(guests="on_host_boot"))
    async with arranged([instance(1)], guests=[guest(1, OFF)], resuming=resuming) as host:
        has(host, alive=time.alive(tmp_path, 2), clock_wait_s=3600)
        result = await host.run()

        assert outcome_of(result, 1).because[-1] == "ran_before"
