"""Whether a guest is reachable, by what it shows after its boot."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.daemon.decisions.verdicts import (
    LOOP,
    RULES,
    STILL_S,
    GuestVerdict,
    VitalEvidence,
    counts_of,
    judge,
    verdicts_text,
)
from bringup.drivers.base import BootCounters, BootSigns, GuestSign, VitalSigns

NO_PACKET = GuestVerdict("silent", "it has sent no packet")
ENOSPC = GuestSign("a", "io_error", "no space left", "virtio-disk0")
REBOOT = GuestSign("a", "rebooted")
AGENT = GuestSign("a", "agent_connected")


DISKS = {"virtio-disk0": "vda"}


def running(
    *,
    run_s: float = 1.0,
    delay_s: float = 0.1,
    reads: int = 0,
    sent: int = 0,
    agent: bool | None = None,
    nics: int | None = 1,
) -> VitalSigns:
    counters = BootCounters(run_s=run_s, delay_s=delay_s, reads=reads, sent=sent)
    return VitalSigns("running", BootSigns(counters, agent), nics, disks=DISKS)


def seen(*looks: VitalSigns | None, heard: Sequence[GuestSign] = (), every_s: float = 60.0) -> VitalEvidence:
    found = VitalEvidence()
    for sign in heard:
        found.hear(sign)
    for number, look in enumerate(looks):
        found.see(look, 100 + number * every_s)
    return found


FULL = VitalSigns("io_error", None, 1, ("vda: no space left",))
ROWS = {
    "crashed": (seen(running(), VitalSigns("crashed")), GuestVerdict("broken", "it has crashed"), True),
    "disk reports": (seen(running(sent=9), FULL), GuestVerdict("broken", "disk vda: no space left"), True),
    "disk was heard of": (
        seen(running(sent=9), running(sent=10), heard=[ENOSPC]),
        GuestVerdict("broken", "disk vda: no space left"),
        True,
    ),
    "disk was heard of, and nothing was seen since": (
        seen(running(sent=9), None, heard=[ENOSPC]),
        GuestVerdict("broken", "disk virtio-disk0: no space left"),
        True,
    ),
    "paused for a disk": (
        seen(VitalSigns("io_error", None, 1)),
        GuestVerdict("broken", "a disk: I/O error, and it is paused"),
        True,
    ),
    "stopped": (seen(running(), VitalSigns("stopped")), None, True),
    "paused": (seen(running(), VitalSigns("paused")), None, True),
    "started again by somebody": (seen(running(run_s=5.0, sent=4), running(run_s=2.0), running(run_s=9.0)), None, True),
    "loop": (
        seen(running(sent=4), running(run_s=2.0, sent=8), heard=[REBOOT] * LOOP),
        GuestVerdict("broken", f"it restarts in a loop, {LOOP} times by now"),
        True,
    ),
    "gone": (seen(running(), None), None, False),
    "still": (seen(running(sent=3), running(sent=3)), GuestVerdict("broken", "its vCPUs do not run"), False),
    "still, and nothing is known of its disks": (
        seen(running(sent=3, reads=9), running(sent=3)),
        GuestVerdict("broken", "its vCPUs do not run"),
        False,
    ),
    "still for a while": (
        seen(running(sent=3), running(run_s=1.5, sent=3), running(run_s=1.5, sent=3)),
        GuestVerdict("broken", "its vCPUs do not run"),
        False,
    ),
    "idle": (seen(running(sent=3), running(delay_s=0.1 + 1e-9, sent=3)), GuestVerdict("reachable"), False),
    "idle, and waits for a CPU are not counted": (
        seen(running(sent=3, delay_s=0.0), running(sent=3, delay_s=0.0)),
        GuestVerdict("reachable"),
        False,
    ),
    "agent died": (
        seen(running(sent=3, agent=True), running(run_s=2.0, sent=3, agent=False)),
        GuestVerdict("silent", "its agent has disconnected, and it has sent no packet since"),
        False,
    ),
    "agent died, network lives": (
        seen(running(sent=3, agent=True), running(run_s=2.0, sent=4, agent=False)),
        GuestVerdict("reachable", "its agent has disconnected"),
        False,
    ),
    "reachable": (seen(running(sent=1), running(run_s=2.0, sent=1)), GuestVerdict("reachable"), False),
    "restarted twice": (
        seen(running(sent=1), running(run_s=2.0, sent=9), heard=[REBOOT] * (LOOP - 1)),
        GuestVerdict("reachable"),
        False,
    ),
    "agent missing, network lives": (
        seen(running(sent=1, agent=False), running(run_s=2.0, sent=1, agent=False)),
        GuestVerdict("reachable"),
        False,
    ),
    "no packet": (seen(running(), running(run_s=2.0)), NO_PACKET, False),
    "no packet, agent lives": (seen(running(agent=True), running(run_s=2.0, agent=True)), NO_PACKET, False),
    "no NIC, agent lives": (
        seen(running(nics=0, agent=True), running(run_s=2.0, nics=0, agent=True)),
        GuestVerdict("reachable"),
        False,
    ),
    "no NIC": (
        seen(running(nics=0), running(run_s=2.0, nics=0)),
        GuestVerdict("silent", "it has no NIC, and no agent is connected"),
        False,
    ),
    "packets cannot be counted": (seen(running(nics=None), running(run_s=2.0, nics=None)), None, False),
    "packets cannot be counted, agent lives": (
        seen(running(nics=None, agent=True), running(run_s=2.0, nics=None, agent=True)),
        GuestVerdict("reachable"),
        False,
    ),
}


@pytest.mark.parametrize(("found", "verdict", "at_once"), ROWS.values(), ids=ROWS)
def test_a_guest_is_judged_by_what_it_shows(found: VitalEvidence, verdict: GuestVerdict | None, at_once: bool) -> None:  # noqa: FBT001 - a column
    assert judge(found, is_over=True) == (True, verdict)
    assert judge(found, is_over=False) == (at_once, verdict if at_once else None)


def test_every_rule_is_reached() -> None:
    reached = [next((rule for rule in RULES if rule.holds(found)), None) for found, *_ in ROWS.values()]

    assert [rule for rule in RULES if rule not in reached] == []


def test_one_that_was_watched_for_a_moment_is_not_called_still() -> None:
    found = seen(running(sent=3), running(sent=3), every_s=STILL_S - 1)

    assert judge(found, is_over=True) == (True, GuestVerdict("reachable"))


def test_one_that_was_never_read_is_not_judged() -> None:
    assert judge(VitalEvidence(), is_over=True) == (True, None)


def test_one_that_works_and_may_still_boot_is_not_called_silent_by_now() -> None:
    computes, reads, rests = (
        seen(running(), running(run_s=20.0)),
        seen(running(), running(run_s=2.0, reads=500)),
        seen(running(), running(run_s=2.0)),
    )

    assert [judge(found, is_over=True, may_boot=True) for found in (computes, reads, rests)] == [
        (False, None),
        (False, None),
        (True, NO_PACKET),
    ]
    assert judge(computes, is_over=True) == (True, NO_PACKET)
    assert judge(seen(running(), running(run_s=20.0, sent=1)), is_over=True, may_boot=True)[1] == GuestVerdict(
        "reachable"
    )


def test_one_that_restarts_by_itself_has_no_agent_for_a_while() -> None:
    found = seen(running(sent=3, agent=True), running(run_s=2.0, sent=3, agent=True))
    found.hear(REBOOT)
    found.see(running(run_s=9.0, sent=3, agent=False), 300.0)

    assert judge(found, is_over=True)[1] == GuestVerdict("reachable")


def test_an_agent_that_was_heard_and_not_seen_is_known_to_have_been_there() -> None:
    found = seen(running(agent=False), heard=[AGENT])
    found.see(running(run_s=2.0, agent=False), 200.0)

    assert judge(found, is_over=True)[1] == GuestVerdict(
        "silent", "its agent has disconnected, and it has sent no packet since"
    )


def test_an_agent_that_connects_while_a_look_is_under_way_is_not_called_lost() -> None:
    found = seen(running(sent=3, agent=False))
    found.hear(AGENT)
    found.see(running(run_s=2.0, sent=3, agent=False), 200.0)

    assert judge(found, is_over=True)[1] == GuestVerdict("reachable")


def test_verdicts_are_counted_and_put_into_words() -> None:
    counts = counts_of(
        [GuestVerdict("reachable"), GuestVerdict("broken", "disk vda: I/O error"), GuestVerdict("reachable")]
    )

    assert counts == {"reachable": 2, "silent": 0, "broken": 1}
    assert verdicts_text(counts) == "2 reachable, 1 broken"
    assert [GuestVerdict("silent").text, GuestVerdict("broken", "x").text] == ["silent", "broken: x"]


@given(
    st.lists(
        st.builds(
            running,
            run_s=st.floats(0, 100),
            sent=st.integers(1, 99),
            nics=st.sampled_from([0, 1, None]),
        ),
        min_size=1,
    ),
    st.integers(0, LOOP - 1),
    st.sampled_from([None, True, False]),
)
def test_a_guest_that_runs_and_sends_is_reachable_whatever_else_it_shows(
    looks: list[VitalSigns],
    reboots: int,
    agent: bool | None,  # noqa: FBT001 - drawn
) -> None:
    looks.sort(key=lambda look: look.boot.counters.run_s if look.boot else 0.0)  # somebody else does not start it
    found = seen(*looks, running(run_s=1e6, sent=1, agent=agent), heard=[REBOOT] * reboots)

    assert judge(found, is_over=True)[1] == GuestVerdict("reachable")
