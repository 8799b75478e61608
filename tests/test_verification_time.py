"""When guests are read after their boot, and when they are judged, by a clock that jumps."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
import trio
from structlog.testing import capture_logs

from bringup.daemon.decisions.policies import VerifyPolicy
from bringup.daemon.decisions.readiness import Readiness
from bringup.daemon.decisions.run_events import InstanceBoots, InstanceReady, InstanceVerified, RunEvent
from bringup.daemon.recovery.verification import AT_ONCE, EVERY_AT_LEAST_S, EVERY_S, Verification
from bringup.daemon.storage.journal import NO_JOURNAL
from bringup.daemon.tasks import background
from bringup.drivers.base import BootCounters, BootSigns, GuestSign, VitalSigns
from bringup.drivers.simulated import Fault, Scenario, SimulatedDriver
from support.drivers import uuid_of

pytestmark = pytest.mark.anyio

READY = Readiness(by="agent", at_s=1.0, queued_s=0.0, start_s=0.0, boot_s=1.0)
NOT_READY = Readiness(by=None, at_s=1.0, queued_s=0.0, start_s=0.0, boot_s=1.0)
REBOOT = GuestSign(uuid_of(1), "rebooted")
SOON_S = 2 * EVERY_S


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@dataclass
class Watch:
    """Guests that are watched for a minute, and when each was judged."""

    driver: SimulatedDriver
    began_at: float = field(default_factory=anyio.current_time)
    judged: dict[str, tuple[str, float]] = field(default_factory=dict)
    verification: Verification = field(init=False)

    def __post_init__(self) -> None:
        policy = VerifyPolicy(within=60.0)
        self.verification = Verification(self.driver, policy, observer=self.observe, journal=NO_JOURNAL)

    def observe(self, event: RunEvent) -> None:
        if isinstance(event, InstanceVerified):
            self.judged[event.uuid] = (event.verdict.text, self.now)

    @property
    def now(self) -> float:
        return anyio.current_time() - self.began_at

    def shows(self, number: int = 1, *, run_s: float = 1.0, sent: int = 0) -> None:
        boot = BootSigns(BootCounters(run_s=run_s, delay_s=run_s / 10, sent=sent), agent=False)
        self.driver.shows(uuid_of(number), VitalSigns("running", boot, nics=1))

    def boots(self, count: int = 1, readiness: Readiness = READY, *, sent: int = 0) -> None:
        for number in range(1, count + 1):
            self.shows(number, sent=sent)
            self.verification.observe(InstanceBoots(uuid_of(number)))
            self.verification.observe(InstanceReady(uuid_of(number), readiness))

    async def every(self, period_s: float, times: int, do: Callable[[int], None]) -> None:
        for number in range(1, times + 1):
            await anyio.sleep(period_s)
            do(number)

    async def over(self) -> float:
        """Wait until all are judged, or not to be; return when that was."""
        while not self.verification.is_over:  # noqa: ASYNC110 - nobody announces it, and the clock jumps
            await anyio.sleep(0.5)
        return self.now


@asynccontextmanager
async def watching(*, latency_s: float = 0.0) -> AsyncIterator[Watch]:
    driver = SimulatedDriver(Scenario(latency={"vital_signs": latency_s}), record=True)
    await driver.init_host("compute-1")
    watch = Watch(driver)
    async with background() as beside:
        await beside.start(watch.verification.run)
        yield watch
    await driver.close()


async def test_one_that_restarts_by_itself_is_watched_once_more() -> None:
    async with watching() as watch:
        watch.boots(2, sent=5)
        await watch.every(50.0, 1, lambda at: watch.shows(2, run_s=1.0 + at, sent=6))
        watch.driver.sends(REBOOT)
        await watch.every(20.0, 2, lambda at: watch.shows(1, run_s=5.0 + at, sent=7))
        await watch.over()

    (second, at), (first, later) = watch.judged[uuid_of(2)], watch.judged[uuid_of(1)]
    assert (first, second) == ("reachable", "reachable")
    assert 60 <= at <= 60 + SOON_S
    assert 110 <= later <= 110 + SOON_S


async def test_a_loop_whose_turns_take_most_of_a_minute_is_found() -> None:
    async with watching() as watch:
        watch.boots(sent=5)

        def reboot(number: int) -> None:
            watch.shows(run_s=1.0 + number, sent=5 + number)
            watch.driver.sends(REBOOT)

        await watch.every(50.0, 4, reboot)
        await watch.over()

    assert watch.judged[uuid_of(1)][0] == "broken: it restarts in a loop, 4 times by now"


@pytest.mark.parametrize(("works_s", "until_s"), [(0, 60), (300, 360), (3600, 600)])
async def test_one_never_seen_ready_is_silent_once_it_rests_or_after_ten_minutes(works_s: int, until_s: int) -> None:
    async with watching() as watch, background() as beside:
        watch.boots(readiness=NOT_READY)
        beside.start_soon(watch.every, 1.0, 3600, lambda at: watch.shows(run_s=1 + min(at, works_s) + at / 100))
        await watch.over()

    verdict, at = watch.judged[uuid_of(1)]
    assert verdict == "silent: it has sent no packet"
    assert until_s <= at <= until_s + 60 + SOON_S


async def test_an_event_of_a_guest_makes_nobody_read_the_others() -> None:
    async with watching() as watch:
        watch.boots(40, sent=5)
        await watch.every(1.0, 30, lambda number: watch.driver.sends(GuestSign(uuid_of(number), "rebooted")))
        read = [len(call.arguments["uuids"]) for call in watch.driver.calls if call.verb == "vital_signs"]

    assert set(read) <= {1, 40}
    assert read.count(40) <= 30 / EVERY_S + 2


async def test_looks_that_take_long_are_rare() -> None:
    async with watching(latency_s=1.0) as watch:
        watch.boots(2 * AT_ONCE, sent=5)
        await watch.over()
        calls = watch.driver.count("vital_signs")

    assert len(watch.judged) == 2 * AT_ONCE
    assert calls <= 2 * (60 / EVERY_AT_LEAST_S + 2)


async def test_those_of_a_call_that_fails_are_read_again_and_the_others_are_judged() -> None:
    async with watching() as watch:
        watch.boots(AT_ONCE + 1, sent=5)
        fault = Fault(verb="vital_signs", error="RuntimeError")
        await anyio.sleep(30)
        watch.driver.inject(fault)
        await anyio.sleep(60)
        before = dict(watch.judged)
        watch.driver.lift(fault)
        await watch.over()

    assert before == {}
    assert len(watch.judged) == AT_ONCE + 1


async def test_what_cannot_be_read_for_a_minute_is_given_up() -> None:
    async with watching() as watch:
        watch.driver.inject(Fault(verb="vital_signs", error="RuntimeError"))
        watch.boots()
        with capture_logs() as logs:
            at = await watch.over()

    assert watch.judged == {}
    assert 120 <= at <= 120 + SOON_S
    (line,) = [line for line in logs if line["event"] == "verification.given_up"]
    assert (line["instances"], line["log_level"]) == ([uuid_of(1)], "warning")
