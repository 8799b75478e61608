import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import AsyncRetrying, RetryCallState

from bringup.placement.backoff import (
    LARGEST_CEILING_AWAY_S,
    LARGEST_CEILING_S,
    LEAST_CEILING_AWAY_S,
    LEAST_CEILING_S,
    PLACEMENT_WAIT,
    RETRY_AFTER_MAX_S,
    SHARE,
    keystone_wait_s,
    wait_s,
)
from bringup.placement.errors import KeystoneWait, Unreachable

ATTEMPTS = st.integers(1, 10**9)
SEEDS = st.integers(0, 10**9)


def wait(
    attempt: int, seed: int, retry_after_s: float | None = None, *, of_keystone: KeystoneWait | None = None
) -> float:
    error = Unreachable("get a token", "answered 503")
    error.of_keystone, error.retry_after_s = of_keystone, retry_after_s
    state = RetryCallState(AsyncRetrying(), None, (), {})
    state.attempt_number = attempt
    state.set_exception((Unreachable, error, None))
    random.seed(seed)
    return wait_s(state)


@given(ATTEMPTS, SEEDS)
def test_a_wait_is_never_nothing_and_never_above_its_maximum(attempt: int, seed: int) -> None:
    assert 0 < wait(attempt, seed) <= PLACEMENT_WAIT.max


@given(ATTEMPTS, st.none() | st.floats(0.1, 1e9))
def test_every_wait_is_jittered_also_the_longest(attempt: int, retry_after_s: float | None) -> None:
    waits = [wait(attempt, seed, retry_after_s) for seed in range(64)]
    assert max(waits) >= 1.2 * min(waits)


@given(ATTEMPTS, SEEDS)
def test_waits_grow(attempt: int, seed: int) -> None:
    waits = [wait(number, seed) for number in (attempt, attempt + 1)]
    assert waits == sorted(waits)


@given(ATTEMPTS, st.floats(0, RETRY_AFTER_MAX_S), SEEDS)
def test_retry_after_is_honoured(attempt: int, retry_after_s: float, seed: int) -> None:
    assert wait(attempt, seed, retry_after_s) >= retry_after_s


@given(SEEDS)
@pytest.mark.parametrize("retry_after_s", [86400.0, float("inf")])
def test_retry_after_cannot_stop_a_host_for_a_day(retry_after_s: float, seed: int) -> None:
    assert RETRY_AFTER_MAX_S <= wait(1, seed, retry_after_s) <= 1.25 * RETRY_AFTER_MAX_S


def assert_is_anything_up_to(ceiling_s: float, waited: KeystoneWait) -> None:
    waits = [wait(1, seed, of_keystone=waited) for seed in range(200)]
    assert 0 <= min(waits) < 0.05 * ceiling_s
    assert 0.95 * ceiling_s < max(waits) <= ceiling_s


@pytest.mark.parametrize(("failures", "ceiling_s"), [(0, 3), (1, 3), (2, 6), (3, 10), (10**9, 10)])
def test_a_keystone_that_is_away_is_tried_ever_more_seldom_up_to_a_bound(failures: int, ceiling_s: float) -> None:
    assert ceiling_s <= LARGEST_CEILING_AWAY_S
    assert_is_anything_up_to(ceiling_s, KeystoneWait(failures=failures, took_s=5.0))


@pytest.mark.parametrize(("took_s", "ceiling_s"), [(0, 3), (0.05, 3), (0.1, 6), (0.15, 9), (0.2, 10), (60, 10)])
def test_the_slower_a_refusal_the_more_seldom_it_is_asked_for(took_s: float, ceiling_s: float) -> None:
    assert ceiling_s >= LEAST_CEILING_AWAY_S
    assert_is_anything_up_to(ceiling_s, KeystoneWait(failures=9, took_s=took_s))


@pytest.mark.parametrize("queued_s", [0, 1, 10, 30, 100, 1e9])
def test_who_has_waited_for_a_busy_keystone_waits_a_share_of_that_again(queued_s: float) -> None:
    ceiling_s = min(LARGEST_CEILING_S, max(LEAST_CEILING_S, SHARE * queued_s))
    assert_is_anything_up_to(ceiling_s, KeystoneWait(queued_s=queued_s))


@pytest.mark.parametrize(("took_s", "ceiling_s"), [(0.1, 0.5), (0.3, 0.9), (0.5, 2), (1, 4), (4, 16), (15, 20)])
def test_behind_a_long_queue_nobody_probes_soon_again(took_s: float, ceiling_s: float) -> None:
    assert_is_anything_up_to(ceiling_s, KeystoneWait(queued_s=0, took_s=took_s))


@given(
    st.builds(
        KeystoneWait,
        failures=st.integers(0, 10**9),
        queued_s=st.none() | st.floats(0, 1e9),
        took_s=st.floats(0, 1e9),
    ),
    SEEDS,
)
def test_the_wait_for_keystone_is_that_of_its_errors(waited: KeystoneWait, seed: int) -> None:
    random.seed(seed)
    drawn_s = keystone_wait_s(waited)
    assert wait(1, seed, of_keystone=waited) == drawn_s


@given(ATTEMPTS, SEEDS, st.floats(0, 1e9))
def test_what_keystone_asks_for_is_waited_at_least_and_not_for_ever(
    attempt: int, seed: int, retry_after_s: float
) -> None:
    wait_for_s = wait(attempt, seed, retry_after_s, of_keystone=KeystoneWait(failures=attempt))
    assert min(retry_after_s, RETRY_AFTER_MAX_S) <= wait_for_s <= 1.25 * RETRY_AFTER_MAX_S
