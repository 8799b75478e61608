"""How far a run is, in one line."""

from collections.abc import Mapping

import pytest

from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.status.snapshot import InstanceNow, Snapshot, headline
from support.drivers import uuid_of


def snapshot(
    phase: str = "instances", detail: str = "", counts: Mapping[Kind, int] | None = None, eta_s: float | None = None
) -> Snapshot:
    return Snapshot(
        phase=phase,
        detail=detail,
        phase_age_s=1,
        age_s=2,
        total=412 if phase != "placement" else 0,
        counts={**dict.fromkeys(Kind, 0), **(counts or {})},
        warnings=0,
        eta_s=eta_s,
        running=(InstanceNow(uuid_of(1), "plug_vifs", 50, 41.2), InstanceNow(uuid_of(2), "get_info", 1, 0.1)),
    )


def test_the_line_says_counts_the_rest_and_the_slowest() -> None:
    line = headline(snapshot(counts={Kind.INITIALIZED: 134, Kind.FAILED: 3}, eta_s=120))

    assert line == f"137/412 done, 3 failed, ETA 2 min 0 s, slowest {uuid_of(1)} plug_vifs 41 s"


def test_what_is_held_is_reported() -> None:
    assert headline(snapshot(counts={Kind.HELD: 2})).startswith("2/412 done, 2 held, slowest")


@pytest.mark.parametrize(
    ("detail", "said"), [("", "placement"), ("no answer yet, 4 tries", "placement: no answer yet, 4 tries")]
)
def test_before_there_is_work_the_line_reports_what_is_waited_for(detail: str, said: str) -> None:
    assert headline(snapshot("placement", detail)) == said


@pytest.mark.parametrize(
    ("phase", "done", "percent"),
    [("instances", 411, 99), ("instances", 412, 99), ("done", 0, 100), ("placement", 0, 0)],
)
def test_a_hundred_percent_are_reported_only_when_it_is_over(phase: str, done: int, percent: int) -> None:
    assert snapshot(phase, counts={Kind.SKIPPED: done}).percent == percent
