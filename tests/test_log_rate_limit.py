"""What others can cause again and again is said so often, and counted."""

from bringup.daemon.log_rate_limit import LogRateLimit
from support.status import Clock


def test_so_much_is_let_through_within_a_time_and_the_rest_is_counted() -> None:
    clock = Clock()
    sparing = LogRateLimit(2, 60, clock)

    first = [sparing.allows() for _ in range(5)]
    clock.now_s = 59.9
    before = sparing.allows()
    clock.now_s = 60
    after = [sparing.allows() for _ in range(3)]

    assert first == [True, True, False, False, False]
    assert not before
    assert after == [True, True, False]
    assert (sparing.dropped(), sparing.dropped()) == (5, 0)
