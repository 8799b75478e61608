import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import AsyncRetrying, RetryCallState

from bringup.placement.backoff import (
    KEYSTONE_WAIT,
    PLACEMENT_WAIT,
    RETRY_AFTER_MAX_S,
    wait_s,
)
from bringup.placement.errors import Unreachable

ATTEMPTS = st.integers(1, 10**9)
SEEDS = st.integers(0, 10**9)


def wait(attempt: int, seed: int, retry_after_s: float | None = None, *, of_keystone: bool = False) -> float:
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


@given(ATTEMPTS)
def test_a_wait_for_keystone_is_anything_up_to_a_ceiling(attempt: int) -> None:
    waits = [wait(attempt, seed, of_keystone=True) for seed in range(200)]
    assert 0 <= min(waits) < 0.05 * KEYSTONE_WAIT.max
    assert max(waits) <= KEYSTONE_WAIT.max
    assert max(wait(10, seed, of_keystone=True) for seed in range(200)) > 0.95 * KEYSTONE_WAIT.max


@given(ATTEMPTS, SEEDS, st.floats(0, 1e9))
def test_what_keystone_asks_for_is_waited_at_least_and_not_for_ever(
    attempt: int, seed: int, retry_after_s: float
) -> None:
    wait_for_s = wait(attempt, seed, retry_after_s, of_keystone=True)
    assert min(retry_after_s, RETRY_AFTER_MAX_S) <= wait_for_s <= max(KEYSTONE_WAIT.max, 1.25 * RETRY_AFTER_MAX_S)
