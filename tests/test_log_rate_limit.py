"""What others can cause again and again is said so often, and counted."""

from bringup.daemon.log_rate_limit import Sparing
from support.status import Clock


def test_so_much_is_let_through_within_a_time_and_the_rest_is_counted() -> None:
    clock = Clock()
    sparing = Sparing(2, 60, clock)

    first = [sparing.lets() for _ in range(5)]
    clock.now_s = 59.9
    before = sparing.lets()
    clock.now_s = 60
    after = [sparing.lets() for _ in range(3)]

    assert first == [True, True, False, False, False]
    assert not before
    assert after == [True, True, False]
    assert (sparing.dropped(), sparing.dropped()) == (5, 0)
