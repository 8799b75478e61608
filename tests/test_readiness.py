"""When a guest is ready, and how long guests took until they were."""

from dataclasses import replace

import pytest

from bringup.daemon.decisions.outcomes import Did, Kind, Outcome
from bringup.daemon.decisions.pace_keys import Ready
from bringup.daemon.decisions.readiness import (
    QuietWatch,
    Readiness,
    ReadyBy,
    TimeToReady,
    boots,
    shows,
    time_to_ready,
)
from bringup.daemon.decisions.rules import Facts
from bringup.drivers.base import BootCounters, BootSigns
from support.drivers import uuid_of
from support.hosts import HOST, instance

STARTS = ("power_on",)


def looks(*counters: BootCounters, every_s: float = 1.0) -> list[ReadyBy | None]:
    """Return what shows at each of several looks that a guest is ready."""
    watch = QuietWatch()
    found = (watch.look({"a": BootSigns(each)}, number * every_s) for number, each in enumerate(counters))
    return [each.get("a") for each in found]


def test_a_guest_that_has_run_and_is_quiet_for_three_seconds_is_ready() -> None:
    still = BootCounters(run_s=5.0, reads=100)

    assert looks(BootCounters(run_s=4.0), still, still, still, still, still) == [
        None,
        None,
        None,
        None,
        "quiet",
        "quiet",
    ]


def test_one_that_has_sent_packets_is_ready_as_soon_as_it_is_quiet() -> None:
    assert looks(BootCounters(run_s=4.0), BootCounters(run_s=4.1, sent=1)) == [None, "packet"]


def test_for_how_long_one_is_quiet_is_known_whatever_is_still_awaited() -> None:
    watch, found = QuietWatch(), []
    for at_s, run_s in enumerate((4.0, 4.0, 4.0, 5.0, 5.0)):
        watch.look({"a": BootSigns(BootCounters(run_s=run_s), agent=False)}, at_s)
        found.append(watch.quiet_s("a"))

    assert found == [0, 1, 2, 0, 1]
    assert watch.quiet_s("b") == 0


def test_one_that_boots_is_not_quiet() -> None:
    assert looks(*(BootCounters(run_s=0.5 * n, sent=9) for n in range(9))) == [None] * 9
    assert looks(*(BootCounters(run_s=9.0, delay_s=0.5 * n, sent=9) for n in range(9))) == [None] * 9
    assert looks(*(BootCounters(run_s=9.0, reads=9 * n, sent=9) for n in range(9))) == [None] * 9


def test_one_that_has_not_run_yet_is_not_ready() -> None:
    assert looks(*[BootCounters(run_s=0.01)] * 9) == [None] * 9


def test_one_that_was_quiet_and_boots_again_begins_anew() -> None:
    first = BootCounters(run_s=5.0)
    again = BootCounters(run_s=9.0)

    assert looks(first, first, first, again, again, again, again)[:6] == [None] * 6


def test_a_guest_that_was_not_looked_at_in_between_begins_anew() -> None:
    watch = QuietWatch()
    still = BootSigns(BootCounters(run_s=5.0))
    watch.look({"a": still}, 0.0)
    watch.look({}, 1.0)

    assert watch.look({"a": still}, 9.0) == {}


@pytest.mark.parametrize(
    ("agent", "by", "wanted", "found"),
    [
        (None, None, None, None),
        (None, "quiet", None, "quiet"),
        (None, "quiet", "agent", "quiet"),
        (False, "quiet", None, None),
        (False, "quiet", "agent", None),
        (False, "packet", "quiet", "packet"),
        (True, None, None, "agent"),
        (True, "quiet", "agent", "agent"),
        (True, None, "quiet", None),
    ],
)
def test_where_there_is_a_channel_for_an_agent_it_is_waited_for(
    agent: bool | None,  # noqa: FBT001 - a column
    by: ReadyBy | None,
    wanted: Ready | None,
    found: ReadyBy | None,
) -> None:
    assert shows(BootSigns(BootCounters(), agent), by, wanted) == found


@pytest.mark.parametrize("did", Did)
def test_what_was_started_now_boots(did: Did) -> None:
    facts = Facts(instance=instance(1), host=HOST)
    outcome = Outcome(uuid=uuid_of(1), kind=Kind.INITIALIZED, did=did, because=(), took_s=0.1)

    assert boots(facts, outcome, STARTS) == (did in (Did.STARTED, Did.REBOOTED))
    assert not boots(replace(facts, done=frozenset({"power_on"})), outcome, STARTS)


def readiness(at_s: float = 10.0, by: ReadyBy | None = "agent", parts: dict[str, float] | None = None) -> Readiness:
    known = {"queued_s": 1.0, "start_s": 1.0, "boot_s": 8.0} | (parts or {})
    return Readiness(by=by, at_s=at_s, **known)


@pytest.mark.parametrize(
    ("parts", "cost"),
    [
        ({"queued_s": 9.0}, "queue"),
        ({"start_s": 9.0}, "start"),
        ({}, "boot"),
        ({"cpu_wait_s": 5.0, "read_s": 2.0}, "cpu"),
        ({"cpu_wait_s": 2.0, "read_s": 5.0}, "disk"),
        ({"cpu_wait_s": 3.0, "read_s": 3.0}, "boot"),
    ],
)
def test_what_took_most_of_the_time_is_named(parts: dict[str, float], cost: str) -> None:
    assert readiness(parts=parts).cost == cost


def test_half_of_those_that_were_started_are_ready_at_a_time_and_all_of_them_later() -> None:
    found = [readiness(at_s) for at_s in (4.0, 1.0, 3.0, 2.0, 9.0)]

    assert time_to_ready(found, started=5) == TimeToReady(5, 5, 0, 1.0, 3.0, 9.0)
    assert time_to_ready(found[:3], started=5) == TimeToReady(5, 3, 0, 1.0, 4.0, None)
    assert time_to_ready(found[:2], started=5) == TimeToReady(5, 2, 0, 1.0, None, None)
    assert time_to_ready([], started=0) == TimeToReady(0, 0, 0)


def test_one_that_has_not_shown_it_is_counted_and_has_no_time() -> None:
    found = [readiness(1.0), readiness(60.0, by=None)]

    assert time_to_ready(found, started=2) == TimeToReady(2, 1, 1, 1.0, 1.0, None)
