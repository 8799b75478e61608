import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.placement.backoff import MAX_S, RETRY_AFTER_MAX_S, backoff_s

ATTEMPTS = st.integers(1, 10**9)
DRAWS = st.floats(0, 1)


@given(ATTEMPTS, DRAWS)
def test_a_wait_is_never_nothing_and_never_above_its_maximum(attempt: int, draw: float) -> None:
    assert 0 < backoff_s(attempt, retry_after_s=None, draw=draw) <= MAX_S


@given(ATTEMPTS, st.none() | st.floats(0.1, 1e9))
def test_every_wait_is_jittered_also_the_longest(attempt: int, retry_after_s: float | None) -> None:
    least = backoff_s(attempt, retry_after_s=retry_after_s, draw=0)
    most = backoff_s(attempt, retry_after_s=retry_after_s, draw=1)
    assert most >= 1.2 * least


@given(ATTEMPTS, DRAWS)
def test_waits_grow(attempt: int, draw: float) -> None:
    waits = [backoff_s(number, retry_after_s=None, draw=draw) for number in (attempt, attempt + 1)]
    assert waits == sorted(waits)


@given(ATTEMPTS, st.floats(0, RETRY_AFTER_MAX_S), DRAWS)
def test_retry_after_is_honoured(attempt: int, retry_after_s: float, draw: float) -> None:
    assert backoff_s(attempt, retry_after_s=retry_after_s, draw=draw) >= retry_after_s


@pytest.mark.parametrize("retry_after_s", [86400.0, float("inf")])
def test_retry_after_cannot_stop_a_host_for_a_day(retry_after_s: float) -> None:
    assert backoff_s(1, retry_after_s=retry_after_s, draw=0) == RETRY_AFTER_MAX_S
