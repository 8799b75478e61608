import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.placement.keystone import AT_ONCE_S, TOO_LONG_S, may_log_in

DRAWS = st.floats(0, 1, exclude_max=True)


@given(st.floats(0, AT_ONCE_S), DRAWS)
def test_a_host_that_is_alone_never_waits(took_s: float, draw: float) -> None:
    assert may_log_in(took_s, draw=draw)


@given(st.floats(TOO_LONG_S, 1e9), DRAWS)
def test_nobody_logs_in_behind_a_long_queue(took_s: float, draw: float) -> None:
    assert not may_log_in(took_s, draw=draw)


@pytest.mark.parametrize(("took_s", "share"), [(0.10001, 0.531), (0.15, 0.377), (0.25, 0.178), (0.4, 0.0467)])
def test_the_longer_the_queue_the_fewer_log_in(took_s: float, share: float) -> None:
    draws = random.Random(7)  # noqa: S311 - no secret
    entered = sum(may_log_in(took_s, draw=draws.random()) for _ in range(20_000)) / 20_000
    assert entered == pytest.approx(share, abs=0.01)
