"""What is taken down of a run."""

import json
from typing import Any

import pytest

from bringup.daemon.decisions.outcomes import Did, Kind, Outcome, Problem
from bringup.daemon.decisions.run_events import ActionBegan, InstanceBegan, InstanceEnded, PhaseBegan
from bringup.daemon.status.endpoint.histograms import Histogram
from bringup.daemon.status.endpoint.recorder import MESSAGE_LENGTH, Recorder
from support.drivers import uuid_of
from support.hosts import arranged, instance
from support.status import PLUG, STARTED, ManualRun

pytestmark = pytest.mark.anyio


def bars(recorder: Recorder) -> list[dict[str, Any]]:
    return [json.loads(bar) for bar in recorder.bars()]


async def test_an_instance_is_a_bar_with_one_segment_per_action() -> None:
    manual = ManualRun()
    manual.begin(2)
    manual.instance(1, took_s=0.5)
    manual.instance(2, Kind.FAILED, took_s=2)

    assert bars(manual.recorder) == [
        {
            "uuid": uuid_of(1),
            "began_s": 1,
            "ended_s": 1.5,
            "outcome": "initialized",
            "did": "started",
            "because": ["vifs"],
            "warnings": 0,
            "message": None,
            "actions": [["plug_vifs", 1, 0.5, False]],
            "name": "web-1",
            "project": "tests",
            "mark": "✓",
            "attention": None,
            "took": "0.5 s",
            "summary": "started after 0.5 s, because vifs",
            "longest": "plug_vifs 0.5 s",
        },
        {
            "uuid": uuid_of(2),
            "began_s": 1.5,
            "ended_s": 3.5,
            "outcome": "failed",
            "did": "left_alone",
            "because": ["vifs"],
            "warnings": 0,
            "message": "plug_vifs: cannot plug",
            "actions": [["plug_vifs", 1.5, 2, True]],
            "name": "web-2",
            "project": "tests",
            "mark": "✕",
            "attention": "failed",
            "took": "2.0 s",
            "summary": "failed (left alone) after 2.0 s, because vifs",
            "longest": "plug_vifs 2.0 s (failed)",
        },
    ]


async def test_a_bar_of_an_instance_set_to_error_needs_attention_until_it_is_settled_again() -> None:
    manual = ManualRun()
    manual.begin(1)
    manual.instance(1, did=Did.SET_TO_ERROR)
    [bar] = bars(manual.recorder)
    listed = list(manual.recorder.urgent)
    manual.instance(1)

    assert (bar["attention"], bar["mark"]) == ("set to error", "✕")
    assert bar["summary"] == "set to error after 0.5 s, because vifs"
    assert (listed, list(manual.recorder.urgent)) == ([uuid_of(1)], [])


async def test_a_running_instance_has_a_bar_without_an_end() -> None:
    manual = ManualRun()
    manual.begin(1)
    manual.observe(InstanceBegan(uuid_of(1), "web", "tests"))
    manual.clock.now_s = 3
    manual.observe(ActionBegan(uuid_of(1), PLUG))

    assert bars(manual.recorder) == [
        {
            "uuid": uuid_of(1),
            "began_s": 1,
            "ended_s": None,
            "action": "plug_vifs",
            "action_began_s": 3,
            "actions": [],
            "name": "web",
            "project": "tests",
            "mark": "▸",
        }
    ]


async def test_an_action_cut_by_the_deadline_has_a_failed_segment() -> None:
    manual = ManualRun()
    manual.begin(1)
    manual.observe(InstanceBegan(uuid_of(1)))
    manual.observe(ActionBegan(uuid_of(1), PLUG))
    manual.clock.now_s = 21
    manual.observe(InstanceEnded(Outcome(uuid=uuid_of(1), kind=Kind.FAILED, because=(), took_s=20)))

    assert bars(manual.recorder)[0]["actions"] == [["plug_vifs", 1, 20, True]]


async def test_an_instance_without_actions_has_one_segment_that_did_not_fail() -> None:
    manual = ManualRun()
    manual.begin(1)
    manual.observe(InstanceBegan(uuid_of(1)))
    manual.clock.now_s = 1.25
    manual.observe(InstanceEnded(Outcome(uuid=uuid_of(1), kind=Kind.SKIPPED, because=("in_error",), took_s=0.25)))

    assert bars(manual.recorder)[0]["actions"] == [["decide", 1, 0.25, False]]


async def test_an_instance_settled_before_this_start_has_no_beginning() -> None:
    manual = ManualRun()
    manual.begin(1)
    manual.observe(InstanceEnded(Outcome(uuid=uuid_of(1), kind=Kind.INITIALIZED, because=("vifs",), took_s=3)))

    assert (bars(manual.recorder)[0]["began_s"], bars(manual.recorder)[0]["actions"]) == (None, [])
    assert list(manual.recorder.instances.series()) == []


async def test_a_held_instance_that_was_released_has_one_bar_and_needs_no_attention() -> None:
    manual = ManualRun()
    manual.begin(1)
    manual.instance(1, Kind.HELD)
    held = list(manual.recorder.urgent)
    manual.instance(1, Kind.INITIALIZED)

    assert held == [uuid_of(1)]
    assert [bar["outcome"] for bar in bars(manual.recorder)] == ["initialized"]
    assert list(manual.recorder.urgent) == []


async def test_only_instances_that_need_attention_are_kept_with_the_reason() -> None:
    manual = ManualRun()
    manual.begin(5)
    for number, kind in enumerate(Kind):
        manual.instance(number, kind)
    warning = Problem("fence", "DriverError", "no answer")
    manual.observe(
        InstanceEnded(Outcome(uuid=uuid_of(9), kind=Kind.INITIALIZED, because=("vifs",), took_s=1, warnings=(warning,)))
    )

    urgent = manual.recorder.urgent
    assert [each["outcome"] for each in urgent.values()] == ["failed", "superseded", "held", "deferred", "initialized"]
    assert urgent[uuid_of(2)]["message"] == "cannot plug"
    assert urgent[uuid_of(9)]["action"] == "fence"


async def test_a_very_long_message_is_cut() -> None:
    manual = ManualRun()
    manual.begin(1)
    problem = Problem("get_info", "DriverError", "x" * 100_000)
    manual.observe(InstanceEnded(Outcome(uuid=uuid_of(1), kind=Kind.FAILED, because=(), took_s=1, problem=problem)))

    assert len(manual.recorder.urgent[uuid_of(1)]["message"]) <= MESSAGE_LENGTH + 3
    assert len(bars(manual.recorder)[0]["message"]) <= MESSAGE_LENGTH + 3


async def test_phases_are_recorded_and_attempts_counted() -> None:
    manual = ManualRun()
    manual.begin(0)
    manual.observe(PhaseBegan("report"))
    manual.clock.now_s = 4
    manual.end()
    waiting = Recorder(lambda: STARTED, manual.clock)
    for detail in ("", "no answer yet", "no answer yet, 2 tries"):
        waiting.observe(PhaseBegan("placement", detail))

    assert [name for name, _ in manual.progress.phases] == [
        *("starting", "placement", "records", "instances", "report", "done")
    ]
    assert [at_s for _, at_s in manual.progress.phases] == [0, 0, 1, 1, 1, 4]
    assert waiting.progress.retries == {"placement": 2}


async def test_histograms_count_durations_by_verb_and_outcome_and_the_wait_for_a_slot() -> None:
    manual = ManualRun()
    manual.begin(2)
    manual.instance(1, took_s=0.2)
    manual.instance(2, Kind.FAILED, took_s=7)

    actions = {labels: total for labels, _, total in manual.recorder.actions.series()}
    assert actions == {("plug_vifs", "ok"): 0.2, ("plug_vifs", "error"): 7}
    assert [labels for labels, _, _ in manual.recorder.instances.series()] == [("failed",), ("initialized",)]
    [(_, buckets, waited_s)] = manual.recorder.queued.series()
    assert [count for _, count in buckets][-1] == 2
    assert waited_s == pytest.approx(0.2)


async def test_a_histogram_is_cumulative_and_a_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram((1, 10))
    for value in (0.5, 1, 5, 50):
        histogram.observe(("a",), value)

    assert list(histogram.series()) == [(("a",), [("1", 2), ("10", 3), ("+Inf", 4)], 56.5)]


async def test_events_are_sent_to_listeners() -> None:
    manual = ManualRun()
    listener = manual.recorder.feed.listen(None, lambda: "", lambda: False)
    await anext(listener)
    manual.begin(1)
    manual.instance(1)
    manual.end()
    text = await anext(listener)
    await listener.aclose()

    names = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert names == [*("phase", "phase", "run", "work", "phase"), *("began", "action", "ended", "done")]


async def test_a_real_run_is_recorded() -> None:
    recorder = Recorder(lambda: STARTED)
    async with arranged([instance(1), instance(2)], observer=recorder.observe) as host:
        await host.run()

    assert {bar["uuid"]: bar["outcome"] for bar in bars(recorder)} == dict.fromkeys(
        (uuid_of(1), uuid_of(2)), "initialized"
    )
    for bar in bars(recorder):
        verbs = [verb for verb, *_ in bar["actions"]]
        assert verbs[0] == "get_info"
        assert "plug_vifs" in verbs
        assert all(began >= bar["began_s"] and took >= 0 for _, began, took, _ in bar["actions"])
