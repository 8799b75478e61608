import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.placement.backoff import RETRY_AFTER_MAX_S, wait_after_s
from bringup.placement.errors import Unreachable
from bringup.placement.knocking import AT_ONCE_S, CEILING_S, TOO_LONG_S, may_log_in, pause_s

DRAWS = st.floats(0, 1, exclude_max=True)
ATTEMPTS = st.integers(1, 10**9)


@given(st.floats(0, AT_ONCE_S), DRAWS)
def test_a_host_that_is_alone_never_waits(took_s: float, draw: float) -> None:
    assert may_log_in(took_s, draw=draw)


@given(st.floats(TOO_LONG_S, 1e9), DRAWS)
def test_nobody_logs_in_behind_a_long_queue(took_s: float, draw: float) -> None:
    assert not may_log_in(took_s, draw=draw)


@pytest.mark.parametrize(("took_s", "share"), [(0.1, 0.656), (0.25, 0.316), (0.5, 0.0625), (0.75, 0.0039)])
def test_the_longer_the_queue_the_fewer_log_in(took_s: float, share: float) -> None:
    draws = random.Random(7)  # noqa: S311 - no secret
    entered = sum(may_log_in(took_s, draw=draws.random()) for _ in range(20_000)) / 20_000
    assert entered == pytest.approx(share, abs=0.01)


@given(ATTEMPTS, DRAWS)
def test_a_pause_is_anything_up_to_a_ceiling(attempt: int, draw: float) -> None:
    assert 0 <= pause_s(attempt, draw=draw) <= CEILING_S
    assert pause_s(attempt, draw=0) == 0
    assert pause_s(10, draw=1) == CEILING_S


@given(ATTEMPTS, DRAWS, st.floats(0, 1e9))
def test_what_keystone_asks_for_is_waited_at_least_and_not_for_ever(
    attempt: int, draw: float, retry_after_s: float
) -> None:
    error = Unreachable("get a token", "answered 503")
    error.of_keystone, error.retry_after_s = True, retry_after_s
    wait_s = wait_after_s(error, attempt, draw=draw)
    assert min(retry_after_s, RETRY_AFTER_MAX_S) <= wait_s <= max(CEILING_S, 1.25 * RETRY_AFTER_MAX_S)
