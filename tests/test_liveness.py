"""Signs of life of the work in the background."""

import pytest

from bringup.daemon.liveness import Vitals


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_nothing_is_expected_at_first() -> None:
    assert Vitals().overdue() is None


def test_what_has_not_come_in_time_is_overdue_until_it_comes(clock: Clock) -> None:
    vitals = Vitals(slack_s=2, clock=clock)
    vitals.expect("the lease", within_s=10)
    clock.now += 12
    assert vitals.overdue() is None
    clock.now += 0.1
    assert vitals.overdue() == "the lease"

    vitals.expect("the lease", within_s=10)

    assert vitals.overdue() is None


def test_a_block_that_ends_is_not_expected_any_more(clock: Clock) -> None:
    vitals = Vitals(slack_s=0, clock=clock)
    with vitals.expecting("the outbox", within_s=1):
        clock.now += 5
        assert vitals.overdue() == "the outbox"

    assert vitals.overdue() is None


def test_one_that_gets_on_does_not_hide_another_that_does_not(clock: Clock) -> None:
    vitals = Vitals(slack_s=0, clock=clock)
    vitals.expect("the lease", within_s=5)
    vitals.expect("the journal", within_s=50)
    clock.now += 10
    vitals.expect("the journal", within_s=50)

    assert vitals.overdue() == "the lease"
