"""What is waited for arrives: it is checked at once, a burst of it once, and a watch that fails costs nothing else."""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from math import inf

import anyio
import pytest

from bringup.daemon.recovery.arrivals import BURST_S, FIRST_PAUSE_S, LONGEST_PAUSE_S, QUIET_S, Arrivals, Burst, watched
from bringup.drivers.needs import Need, NeedKind, NeedState
from bringup.drivers.simulated import Scenario, SimulatedDriver

pytestmark = pytest.mark.anyio

PATIENCE_S = 60.0


def need(name: str) -> Need:
    return Need(kind=NeedKind.DISK, name=name, state=NeedState.ABSENT)


ONE, TWO = need("/dev/sdb"), need("/dev/sdc")


# A burst


def test_reports_are_checked_together_once_it_is_quiet() -> None:
    burst = Burst()
    assert burst.due_at() == inf
    burst.add(ONE, 10.0)
    burst.add(TWO, 10.0 + QUIET_S / 2)
    assert burst.due_at() == pytest.approx(10.0 + 1.5 * QUIET_S)
    assert burst.take(11.0) == {ONE, TWO}
    assert burst.due_at() == inf


def test_what_never_stops_is_checked_all_the_same() -> None:
    burst = Burst()
    at = 10.0
    while at < 10.0 + BURST_S:
        burst.add(ONE, at)
        at += QUIET_S / 2
    assert burst.due_at() == 10.0 + BURST_S


def test_a_burst_after_another_has_its_own_beginning() -> None:
    burst = Burst()
    burst.add(ONE, 10.0)
    burst.take(11.0)
    burst.add(ONE, 50.0)
    assert burst.due_at() == 50.0 + QUIET_S


def test_each_check_that_finds_nothing_delays_the_next_one_twice_as_long() -> None:
    burst = Burst()
    waits = []
    for _ in range(8):
        burst.checked([ONE], 100.0, is_fruitless=True)
        burst.add(ONE, 100.0)
        waits.append(burst.due_at() - 100.0)
        burst.take(200.0)
    assert waits == [FIRST_PAUSE_S, 2, 4, 8, 16, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    burst.checked([ONE], 200.0, is_fruitless=False)
    burst.add(ONE, 200.0)
    assert burst.due_at() == 200.0 + QUIET_S


def test_what_is_delayed_delays_nothing_else_and_is_not_lost() -> None:
    burst = Burst()
    for _ in range(8):
        burst.checked([ONE], 100.0, is_fruitless=True)
    burst.add(ONE, 101.0)
    burst.add(TWO, 102.0)
    assert burst.due_at() == 102.0 + QUIET_S
    assert burst.take(103.0) == {TWO}
    assert burst.due_at() == 100.0 + LONGEST_PAUSE_S
    burst.keep({TWO})
    assert burst.due_at() == inf


# A watch


@asynccontextmanager
async def watching() -> AsyncIterator[tuple[Arrivals, SimulatedDriver]]:
    driver = SimulatedDriver(Scenario())
    with anyio.fail_after(PATIENCE_S):
        async with watched(driver) as arrivals:
            yield arrivals, driver


def watched_by(driver: SimulatedDriver) -> list[set[Need]]:
    return [set(needs) for needs, _ in driver.watching]


async def test_what_arrives_is_returned_and_what_nobody_waits_for_is_not() -> None:
    async with watching() as (arrivals, driver):
        assert arrivals.follow({ONE, TWO})
        await anyio.wait_all_tasks_blocked()
        driver.meet("", ONE.name)
        driver.meet("", "/dev/other")
        driver.meet("", ONE.name)
        assert await arrivals.wait(PATIENCE_S) == {ONE}
        assert await arrivals.wait(0.01) == frozenset()


async def test_nothing_is_watched_while_nobody_waits_and_nothing_twice() -> None:
    async with watching() as (arrivals, driver):
        await anyio.wait_all_tasks_blocked()
        assert watched_by(driver) == []
        arrivals.follow({ONE})
        assert not arrivals.follow({ONE})
        await anyio.wait_all_tasks_blocked()
        assert watched_by(driver) == [{ONE}]
        assert arrivals.follow({ONE, TWO})
        await anyio.wait_all_tasks_blocked()
        assert watched_by(driver) == [{ONE, TWO}]
        # Where one less is waited for, the watch does not begin anew: it would miss what arrives meanwhile.
        [before] = driver.watching
        assert not arrivals.follow({TWO})
        await anyio.wait_all_tasks_blocked()
        assert driver.watching == [before]
        assert not arrivals.follow(())
        await anyio.wait_all_tasks_blocked()
        assert watched_by(driver) == []
    assert watched_by(driver) == []


async def test_a_report_for_what_is_not_waited_for_any_more_is_forgotten() -> None:
    async with watching() as (arrivals, driver):
        arrivals.follow({ONE, TWO})
        await anyio.wait_all_tasks_blocked()
        driver.meet("", ONE.name)
        arrivals.follow({TWO})
        assert await arrivals.wait(4 * QUIET_S) == frozenset()


async def test_while_the_next_check_is_delayed_nothing_is_lost() -> None:
    async with watching() as (arrivals, driver):
        arrivals.follow({ONE})
        await anyio.wait_all_tasks_blocked()
        driver.meet("", ONE.name)
        assert await arrivals.wait(PATIENCE_S) == {ONE}
        arrivals.checked({ONE}, is_fruitless=True)
        driver.meet("", ONE.name)
        assert await arrivals.wait(QUIET_S) == frozenset()
        assert await arrivals.wait(PATIENCE_S) == {ONE}


class Failing(SimulatedDriver):
    """A driver whose watch fails, or is none."""

    def __init__(self, error: Exception) -> None:
        super().__init__(Scenario())
        self.error = error

    async def watch_needs(self, _needs: Collection[Need], _notify: Callable[[Need], None]) -> None:
        await anyio.lowlevel.checkpoint()
        raise self.error


@pytest.mark.parametrize(
    ("error", "is_logged"), [(OSError("no inotify"), True), (NotImplementedError("no watch"), False)]
)
async def test_a_watch_that_fails_is_logged_and_waits_go_on(
    error: Exception, capsys: pytest.CaptureFixture[str], *, is_logged: bool
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with watched(Failing(error)) as arrivals:
            arrivals.follow({ONE})
            assert await arrivals.wait(0.05) == frozenset()
    assert ("warning" in capsys.readouterr().out) is is_logged
