"""What the service manager is told, and when: as a table, and against a model of what systemd makes of it."""

from dataclasses import dataclass, replace
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.status.snapshot import InstanceNow, Snapshot
from bringup.daemon.status.systemd.messages import (
    LONGEST_STATUS,
    ManagerState,
    Moment,
    Rules,
    due,
    reloading,
    status_line,
    stopping,
    why_stuck,
)
from support.drivers import uuid_of

RULES = Rules(patience_s={"placement": 20, "instances": 10, "done": 10}, extension_s=9, watchdog_s=6)
SLOWEST = InstanceNow(uuid_of(1), "plug_vifs", 41, 41)
RUNNING = f"1/3 done, slowest {uuid_of(1)} plug_vifs 41 s"


def snapshot(phase: str = "instances", *, advances: int = 5, idle_s: float = 0, **facts: Any) -> Snapshot:
    total = 0 if phase == "placement" else 3
    counts = {**dict.fromkeys(Kind, 0), Kind.INITIALIZED: 0 if phase == "placement" else 1}
    values: dict[str, Any] = {"detail": "", "phase_age_s": 1, "age_s": 1, "warnings": 0, "total": total}
    return Snapshot(phase=phase, advances=advances, idle_s=idle_s, **{**values, "counts": counts, **facts})


def moment(at: float = 100, **facts: Any) -> Moment:
    back = facts.pop("is_back", False)
    return Moment(at=at, is_back=back, overdue=facts.pop("overdue", None), snapshot=snapshot(**facts))


KNOWN = ManagerState(extended_at=99, status="1/3 done")
READY = ManagerState(extended_at=90, is_ready=True, sign_at=100, status="ready, 1/3 done")
BACK: dict[str, Any] = {"phase": "done", "is_back": True}


@pytest.mark.parametrize(
    ("now", "told", "lines"),
    [
        (moment(), ManagerState(), ("EXTEND_TIMEOUT_USEC=9000000", "STATUS=1/3 done")),
        (moment(), KNOWN, ()),
        (moment(at=102), KNOWN, ("EXTEND_TIMEOUT_USEC=9000000",)),
        (moment(at=102, idle_s=10), KNOWN, ("EXTEND_TIMEOUT_USEC=9000000",)),
        (moment(phase="placement", idle_s=20), ManagerState(), ("EXTEND_TIMEOUT_USEC=9000000", "STATUS=placement")),
        (moment(phase="placement", detail="no answer yet"), KNOWN, ("STATUS=placement: no answer yet",)),
        (moment(phase="elsewhere", idle_s=20), ManagerState(), ("EXTEND_TIMEOUT_USEC=9000000", "STATUS=1/3 done")),
        (moment(running=(SLOWEST,)), KNOWN, (f"STATUS={RUNNING}",)),
        (moment(at=102, idle_s=11), KNOWN, ("STATUS=stuck: nothing has ended for 11 s in phase instances",)),
        (moment(**BACK), KNOWN, ("READY=1", "WATCHDOG=1", "STATUS=ready, 1/3 done")),
        (moment(at=101.9, **BACK), READY, ()),
        (moment(at=102, **BACK), READY, ("WATCHDOG=1",)),
        (moment(at=102, advances=9, **BACK), READY, ("WATCHDOG=1",)),
        (moment(at=102, idle_s=9999, **BACK), READY, ("WATCHDOG=1",)),
        (moment(at=102, overdue="the outbox", **BACK), READY, ("STATUS=stuck: the outbox is overdue",)),
    ],
    ids=[
        "the first message extends",
        "nothing new, nothing said",
        "it goes on",
        "slow is not stuck",
        "waiting for Placement has its own patience",
        "what is waited for is said",
        "a phase that nobody knows has the longest patience",
        "the slowest is said",
        "stuck is said, and nothing extends",
        "back",
        "no sign of life before its time",
        "a sign of life",
        "what ends later does not extend",
        "idle is not stuck",
        "what is overdue withholds the sign of life",
    ],
)
def test_each_change_is_reported(now: Moment, told: ManagerState, lines: tuple[str, ...]) -> None:
    assert due(now, told, RULES)[0] == lines


def test_without_a_watchdog_no_sign_of_life_is_sent() -> None:
    lines, _ = due(moment(at=inf, **BACK), READY, replace(RULES, watchdog_s=None))

    assert lines == ()


def test_instances_that_are_released_after_days_are_stuck_only_when_they_themselves_take_too_long() -> None:
    young, old = replace(SLOWEST, age_s=3), replace(SLOWEST, age_s=12)
    after_days = {**BACK, "idle_s": 500_000}

    assert why_stuck(moment(running=(young,), **after_days), RULES) is None
    stuck = why_stuck(moment(running=(old,), **after_days), RULES)
    assert stuck == f"nothing has ended for 12 s in phase done, plug_vifs of {uuid_of(1)}"


def test_a_stop_reports_how_long_it_may_take_and_a_reload_when_it_began() -> None:
    said = "STATUS=stopping: results are being saved and reported"
    assert stopping(65, stuck=False) == ("STOPPING=1", said, "EXTEND_TIMEOUT_USEC=65000000")
    assert stopping(65, stuck=True) == ("STOPPING=1", said)
    assert reloading(12.5)[:2] == ("RELOADING=1", "MONOTONIC_USEC=12500000")


@given(st.text())
def test_a_status_is_one_line_of_bounded_length_whatever_is_in_it(text: str) -> None:
    line = status_line(text)

    assert line.startswith("STATUS=")
    assert line.splitlines() == [line]
    assert len(line) <= len("STATUS=") + LONGEST_STATUS + 1
    assert len(line.encode("utf-8", "replace")) < 4096


@dataclass
class Systemd:
    """What systemd does with the messages (sd_notify(3), systemd.service(5)): its two timers."""

    timeout_start_s: float
    watchdog_s: float
    ready: bool = False
    killed_at: float | None = None

    def __post_init__(self) -> None:
        self.until = self.timeout_start_s

    def takes(self, at: float, lines: tuple[str, ...]) -> None:
        if self.killed_at is None and at > self.until:
            self.killed_at = self.until
        for line in lines:
            name, _, value = line.partition("=")
            if name == "READY":
                assert not self.ready, "ready twice"
                self.ready = True
                self.until = at + self.watchdog_s
            elif name == "EXTEND_TIMEOUT_USEC":
                assert not self.ready, "there is no start to extend any more"
                # Never taken back, and no less than the unit's own time.
                self.until = max(self.until, at + int(value) / 1e6)
            elif name == "WATCHDOG":
                assert self.ready, "a sign of life before that would start the watchdog"
                self.until = at + self.watchdog_s


@given(st.lists(st.integers(1, 25), max_size=30))
def test_a_run_is_killed_when_nothing_ends_for_too_long_and_never_before(gaps_s: list[int]) -> None:
    patience_s = RULES.patience_s["instances"]
    systemd = Systemd(timeout_start_s=5, watchdog_s=6)
    ends = [sum(gaps_s[: number + 1]) for number in range(len(gaps_s))]
    told = ManagerState()
    for at in range((ends[-1] if ends else 0) + 1):
        so_far = [end for end in ends if end <= at]
        lines, told = due(moment(at, idle_s=at - (so_far or [0])[-1]), told, RULES)
        systemd.takes(at, lines)

    longest_s = max(gaps_s, default=0)
    if longest_s <= patience_s:
        assert systemd.killed_at is None
    if longest_s > patience_s + RULES.extension_s:
        assert systemd.killed_at is not None


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), max_size=8))
def test_a_daemon_that_stays_is_killed_when_its_work_hangs_and_not_when_it_rests(
    spans_s: list[tuple[int, int]],
) -> None:
    systemd = Systemd(timeout_start_s=5, watchdog_s=6)
    told, at = ManagerState(), 0
    for well_s, hung_s in spans_s:
        for overdue in [None] * well_s + ["the outbox"] * hung_s:
            lines, told = due(moment(at, overdue=overdue, idle_s=at, **BACK), told, RULES)
            systemd.takes(at, lines)
            at += 1

    longest_s = max((hung_s for _, hung_s in spans_s[:-1]), default=0)
    if systemd.killed_at is None:
        assert longest_s <= systemd.watchdog_s
    else:
        # The last sign of life may be a third of the time old.
        assert max(hung_s for _, hung_s in spans_s) > systemd.watchdog_s * 2 / 3 - 1
