"""What a console shows: is it done, what is stuck, what failed and why."""

import copy
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest
from rich.console import Console

from bringup.daemon.decisions.outcomes import Kind, Outcome, Problem
from bringup.daemon.decisions.readiness import Readiness
from bringup.daemon.decisions.run_events import (
    ActionBegan,
    InstanceBegan,
    InstanceBoots,
    InstanceEnded,
    InstanceReady,
    InstanceVerified,
    PhaseBegan,
)
from bringup.daemon.decisions.verdicts import GuestVerdict
from bringup.daemon.errors import Unavailable
from bringup.daemon.status.console import SHOWN_FAILURES, SHOWN_RUNNING, render
from bringup.daemon.status.listener.documents import status
from bringup.daemon.storage.outbox.base import Pending
from bringup.drivers.needs import Need, NeedKind, NeedState
from support.drivers import uuid_of
from support.hosts import HOST
from support.status import PLUG, ManualRun

pytestmark = pytest.mark.anyio


def text_of(manual: ManualRun, pending: Pending | None = None, **changes: Any) -> str:
    console = Console(record=True, width=160, file=io.StringIO(), force_terminal=True)
    console.print(render({**status(manual.source, pending or Pending()), **changes}), highlight=False)
    return console.export_text()


async def test_before_a_run_the_console_shows_what_is_waited_for() -> None:
    manual = ManualRun()
    manual.observe(PhaseBegan("placement", "no answer yet, 3 tries"))

    text = text_of(manual)

    assert f"{HOST}  initializing 0 %  placement: no answer yet, 3 tries, for 0 ms" in text
    assert "done" not in text


async def test_during_a_run_the_console_shows_what_hangs_and_what_failed() -> None:
    manual = ManualRun()
    manual.begin(10)
    manual.instance(1, Kind.FAILED)
    manual.instance(2, Kind.SKIPPED)
    manual.observe(InstanceBegan(uuid_of(3), "web-3"))
    manual.observe(ActionBegan(uuid_of(3), PLUG))
    manual.progress.running[uuid_of(3)].doing_since -= 41

    text = text_of(manual)

    assert "2/10 done, 2 left alone, 1 failed, 1 running, 7 waiting" in text
    assert f"running  web-3 ({uuid_of(3)})  plug_vifs  41 s" in text
    assert f"failed  web-1 ({uuid_of(1)})  plug_vifs: cannot plug" in text


async def test_once_ready_the_console_shows_for_how_long() -> None:
    manual = ManualRun()
    manual.begin(1)
    manual.instance(1)
    manual.end()

    text = text_of(manual, phase_s=7300.0)

    assert f"{HOST}  ready  for 2 h 1 min" in text
    assert "1/1 done, 1 started" in text
    assert "waiting" not in text


async def test_guests_that_boot_are_counted_and_the_slowest_are_listed_once_none_does() -> None:
    manual = ManualRun()
    manual.begin(2)
    for number in (1, 2):
        manual.instance(number)
        manual.observe(InstanceBoots(uuid_of(number)))
    times = Readiness(by="agent", at_s=61.0, queued_s=50.0, start_s=1.0, boot_s=10.0)
    manual.observe(InstanceReady(uuid_of(1), times))
    manual.observe(InstanceVerified(uuid_of(1), GuestVerdict("silent", "it has sent no packet")))
    during = text_of(manual)
    manual.observe(InstanceReady(uuid_of(2), replace(times, by=None)))
    after = text_of(manual)

    assert "1 booting, 1 of 2 ready, the first after 1 min 1 s" in during
    assert f"web-1 ({uuid_of(1)}) silent: it has sent no packet" in during
    assert "slowest" not in during
    assert f"slowest  web-1 ({uuid_of(1)})  1 min 1 s (agent; waited for a slot)" in after
    assert f"slowest  web-2 ({uuid_of(2)})  not seen in 10 s" in after


async def test_a_failed_start_is_shown_with_its_reason() -> None:
    manual = ManualRun()
    manual.progress.start_failed("cannot start without Placement")

    assert f"{HOST}  failed  failed: cannot start without Placement" in text_of(manual)


async def test_warnings_and_waiting_reports_are_shown() -> None:
    manual = ManualRun()
    manual.begin(1)
    manual.observe(
        InstanceEnded(
            Outcome(
                uuid=uuid_of(1),
                kind=Kind.INITIALIZED,
                because=("vifs",),
                took_s=1,
                warnings=(Problem("fence", "DriverError", "no answer"),),
            )
        )
    )

    text = text_of(manual, Pending(2, 125))

    assert f"warning  {uuid_of(1)}  fence: no answer" in text
    assert "2 reports wait for the scheduler, the oldest for 2 min 5 s" in text


async def test_a_pause_says_since_when_until_when_and_how_many_wait() -> None:
    manual = ManualRun()
    manual.begin(1)
    need = Need(kind=NeedKind.PAUSE, name="starts", state=NeedState.ABSENT, why="by an operator until 10:30 UTC")
    manual.observe(
        InstanceEnded(Outcome(uuid=uuid_of(1), kind=Kind.DEFERRED, because=("vifs",), took_s=1, needs=(need,)))
    )
    assert "starts are paused" not in text_of(manual)

    manual.progress.pause("10:00 UTC", "10:30 UTC")

    text = text_of(manual)
    assert "starts are paused since 10:00 UTC until 10:30 UTC, 1 wait; bringup resume ends the pause" in text


async def test_a_deferred_instance_says_for_how_long() -> None:
    manual = ManualRun()
    manual.begin(1)
    manual.instance(1, Kind.DEFERRED)
    manual.clock.now_s += 130

    assert f"deferred  web-1 ({uuid_of(1)})  vifs; deferred for 2 min 10 s" in text_of(manual)


async def test_of_many_instances_the_first_are_shown_and_the_rest_counted() -> None:
    manual = ManualRun()
    manual.begin(1000)
    for number in range(SHOWN_FAILURES + 5):
        manual.instance(number, Kind.FAILED)
    for number in range(SHOWN_RUNNING + 3):
        manual.observe(InstanceBegan(uuid_of(500 + number)))

    text = text_of(manual)

    assert text.count("cannot plug") == SHOWN_FAILURES
    assert "and 5 more that need attention" in text
    assert "and 3 more running" in text


async def test_text_that_looks_like_markup_is_shown_verbatim() -> None:
    manual = ManualRun()
    manual.begin(1)
    problem = Problem("get_info", "DriverError", "bad [/red] device [blink]")
    manual.observe(InstanceEnded(Outcome(uuid=uuid_of(1), kind=Kind.FAILED, because=(), took_s=1, problem=problem)))

    assert "bad [/red] device [blink]" in text_of(manual)


EVIL = "\x1b]0;P\x07\x1b[2J\x9b31m\u202e\u2066\r\nFORGED\u2028\x85"
WRONG = [EVIL, None, -1, float("nan"), float("inf"), 10**30, [], {}, [EVIL], {"a": EVIL}, "9" * 5000, True]


def places(value: Any, *above: Any) -> Iterator[tuple[Any, ...]]:
    """Return the way to each value in a document."""
    if above:
        yield above
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, *above, key)


async def test_any_answer_is_shown_printable_or_refused_with_a_sentence() -> None:
    manual = ManualRun()
    manual.begin(10)
    manual.instance(1, Kind.FAILED)
    manual.instance(2, Kind.DEFERRED)
    manual.observe(InstanceBegan(uuid_of(3)))
    manual.observe(ActionBegan(uuid_of(3), PLUG))
    good = json.loads(json.dumps(status(manual.source, Pending())))
    shown = refused = 0
    for place in places(good):
        for wrong in WRONG:
            document = copy.deepcopy(good)
            around = document
            for key in place[:-1]:
                around = around[key]
            around[place[-1]] = wrong
            console = Console(width=160, file=io.StringIO())
            try:
                console.print(render(document), highlight=False)
            except Unavailable:
                refused += 1
                continue
            shown += 1
            lines = cast("io.StringIO", console.file).getvalue().splitlines()
            assert [line for line in lines if not line.isprintable() or line.strip().startswith("FORGED")] == [], place
    assert min(shown, refused) > 50


@pytest.mark.parametrize("key", ["problem", "last_at"])
async def test_text_about_the_packet_filter_stays_in_its_line(key: str) -> None:
    found = {"restored": 1, "last_at": "x", "problem": None, key: EVIL}
    text = text_of(ManualRun(), filter=found)
    assert "\x1b" not in text
    assert "FORGED" not in [line.strip()[:6] for line in text.splitlines()]
