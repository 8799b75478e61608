"""The share of a processor that answers may take."""

import pytest

from bringup.daemon.status.listener.process import LONGEST_S, pause_s


@pytest.mark.parametrize(
    ("used_s", "passed_s", "pause"),
    [(0.0, 0.05, 0.0), (0.0125, 0.05, 0.0), (0.025, 0.05, 0.05), (0.05, 0.05, 0.15), (10.0, 10.0, LONGEST_S)],
    ids=["idle", "the share", "half of the time", "all of the time", "long"],
)
def test_the_pause_holds_the_cpu_share_and_is_short(used_s: float, passed_s: float, pause: float) -> None:
    assert pause_s(used_s, passed_s, 0.25) == pytest.approx(pause)
