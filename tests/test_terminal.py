"""What a person at a terminal sees: the content, not the drawing of it."""

import io
import time
from dataclasses import replace

import anyio
import pytest
from rich.console import Console, RenderableType

from bringup.daemon.decisions.outcomes import Did, Kind, Outcome, Problem, RunResult
from bringup.daemon.decisions.run_events import (
    ActionBegan,
    InstanceBegan,
    InstanceEnded,
    PhaseBegan,
    RunEnded,
    WorkFound,
)
from bringup.daemon.recovery.init_instance import LOOK
from bringup.daemon.status.progress import Progress
from bringup.daemon.status.snapshot import counts_line, headline
from bringup.daemon.status.terminal import SHOWN_FAILED, SHOWN_RUNNING, Terminal, live_view, summary
from support.drivers import uuid_of
from support.hosts import HOST
from support.status import DID


def recording() -> Console:
    return Console(record=True, width=160, file=io.StringIO(), force_terminal=True)


def drawn(what: RenderableType) -> str:
    console = recording()
    console.print(what)
    return console.export_text()


def outcome(
    number: int, kind: Kind = Kind.INITIALIZED, because: tuple[str, ...] = ("vifs", "runs"), took_s: float = 1
) -> Outcome:
    problem = Problem("get_info", "DriverError", f"no answer for {number}") if kind is Kind.FAILED else None
    did = DID[kind]
    return Outcome(uuid=uuid_of(number), kind=kind, because=because, took_s=took_s, did=did, problem=problem)


def result(*outcomes: Outcome, unfinished: tuple[str, ...] = ()) -> RunResult:
    return RunResult(
        run_id=uuid_of(9), boot_id=uuid_of(8), host=HOST, outcomes=outcomes, unfinished=unfinished, took_s=83
    )


def progressing(*, done: int, total: int, failed: int = 0, running: int = 0) -> Progress:
    progress = Progress()
    progress.observe(PhaseBegan("instances"))
    progress.observe(WorkFound(total))
    for number in range(done):
        progress.observe(InstanceEnded(outcome(number, Kind.FAILED if number < failed else Kind.INITIALIZED)))
    for number in range(running):
        progress.observe(InstanceBegan(uuid_of(1000 + number)))
        progress.observe(ActionBegan(uuid_of(1000 + number), LOOK))
    progress.work_began = time.monotonic() - 10
    progress.ended = progress.work_began + 10
    return progress


def test_what_was_destroyed_or_set_to_error_is_not_counted_as_back() -> None:
    progress = Progress()
    progress.observe(PhaseBegan("instances"))
    progress.observe(WorkFound(62))
    counts = {Did.STARTED: 38, Did.LEFT_RUNNING: 20, Did.DESTROYED: 2, Did.SET_TO_ERROR: 1, Did.STAYS_OFF: 1}
    outcomes = [replace(outcome(0), did=did) for did, count in counts.items() for _ in range(count)]
    for number, each in enumerate(outcomes):
        progress.observe(InstanceEnded(replace(each, uuid=uuid_of(number))))
    progress.observe(RunEnded())
    rows = [" ".join(line.replace("│", " ").split()) for line in drawn(summary(result(*outcomes))).splitlines()]

    said = "62/62 done, 38 started, 20 left running, 1 stays off, 2 destroyed, 1 set to error"
    assert counts_line(progress.snapshot()) == headline(progress.snapshot()) == said
    assert "initialized destroyed vifs > runs 2 1.0 s" in rows
    assert "initialized set to error vifs > runs 1 1.0 s" in rows


def test_the_counts_are_reported_in_one_line() -> None:
    line = counts_line(progressing(done=20, total=60, failed=3, running=8).snapshot())

    assert line == "20/60 done, 17 started, 3 left alone, 3 failed, 8 running, 32 waiting, 2.0/s, ETA 20 s"


def test_what_is_unknown_or_zero_is_left_out_of_the_line() -> None:
    assert counts_line(progressing(done=0, total=5).snapshot()) == "0/5 done, 0 running, 5 waiting"
    assert counts_line(progressing(done=5, total=5).snapshot()) == "5/5 done, 5 started, 0 running, 0 waiting, 0.5/s"


def test_the_view_shows_the_phase_the_counts_and_those_that_take_longest() -> None:
    progress = progressing(done=1, total=100, running=SHOWN_RUNNING + 3)
    for place, running in enumerate(progress.running.values()):
        running.since -= place
        running.doing_since -= 30

    text = drawn(live_view(progress.snapshot()))

    assert "instances" in text
    assert counts_line(progress.snapshot()) in text
    shown = [number for number in range(SHOWN_RUNNING + 3) if uuid_of(1000 + number) in text]
    assert shown == list(range(3, SHOWN_RUNNING + 3))
    assert "get_info" in text
    assert "30 s" in text


def test_before_there_is_work_the_view_shows_what_is_waited_for() -> None:
    progress = Progress()
    progress.observe(PhaseBegan("placement", "no answer yet, 4 tries"))

    text = drawn(live_view(progress.snapshot()))

    assert "placement" in text
    assert "no answer yet, 4 tries" in text
    assert "done" not in text


def test_the_summary_counts_outcomes_by_what_they_are_and_why() -> None:
    text = drawn(
        summary(
            result(
                outcome(1, took_s=4),
                outcome(2, took_s=75),
                outcome(3, because=("power_off_interrupted",)),
                outcome(4, Kind.SKIPPED, ("in_error",)),
                outcome(5, Kind.FAILED, ("vifs",)),
                unfinished=(uuid_of(6), uuid_of(7)),
            )
        )
    )
    rows = [" ".join(line.replace("│", " ").replace("┃", " ").split()) for line in text.splitlines()]

    assert f"{HOST}: 5 instances in 1 min 23 s" in text
    assert "initialized started vifs > runs 2 1 min 15 s" in rows
    assert "initialized started power_off_interrupted 1 1.0 s" in rows
    assert "skipped left alone in_error 1 1.0 s" in rows
    assert "failed left alone vifs 1 1.0 s" in rows
    assert "unfinished 2" in rows


def test_the_summary_reports_what_went_wrong_with_which_instance() -> None:
    text = drawn(summary(result(outcome(1), outcome(2, Kind.FAILED))))

    assert f"failed {uuid_of(2)}  get_info: no answer for 2" in text
    assert text.count(uuid_of(1)) == 0


def test_an_instance_set_to_error_is_named_below_the_table_with_advice() -> None:
    text = drawn(summary(result(outcome(1), replace(outcome(2, because=("build_interrupted",)), did=Did.SET_TO_ERROR))))

    assert f"set to error {uuid_of(2)}  build_interrupted" in text
    assert "to do (1): its build or rebuild was cut short" in text


def test_of_many_failures_the_first_are_shown_and_the_rest_counted() -> None:
    text = drawn(summary(result(*(outcome(number, Kind.FAILED) for number in range(SHOWN_FAILED + 7)))))

    assert text.count("no answer for") == SHOWN_FAILED
    assert "and 7 more" in text


def test_text_that_looks_like_markup_is_shown_verbatim() -> None:
    """Messages come from hypervisors, names from operators."""
    odd = Outcome(
        uuid=uuid_of(1),
        kind=Kind.FAILED,
        because=("[bold]",),
        took_s=1,
        problem=Problem("get_info", "DriverError", "bad [/red] device [blink]"),
    )
    whole = RunResult(
        run_id=uuid_of(9), boot_id=uuid_of(8), host="[red]rack[/]", outcomes=(odd,), unfinished=(), took_s=1
    )

    text = drawn(summary(whole))

    assert "bad [/red] device [blink]" in text
    assert "[bold]" in text
    assert "[red]rack[/]: 1 instances" in text


def test_a_line_is_reported_as_it_is() -> None:
    console = recording()

    Terminal(console).say("ready: [compute-1] 3/3")

    assert console.export_text() == "ready: [compute-1] 3/3\n"


@pytest.mark.anyio
async def test_the_view_is_kept_up_to_date_and_is_gone_at_the_end() -> None:
    console = recording()
    progress = Progress()
    progress.observe(PhaseBegan("placement"))
    terminal = Terminal(console)
    with anyio.fail_after(60):
        async with terminal.showing(progress):
            await anyio.wait_all_tasks_blocked()
    terminal.show_summary(result(outcome(1)))

    text = console.export_text()
    assert f"{HOST}: 1 instances" in text


@pytest.mark.anyio
async def test_what_fails_while_the_view_is_shown_is_raised_as_it_is() -> None:
    with pytest.raises(LookupError, match=r"^inside$"):
        async with Terminal(recording()).showing(Progress()):
            raise LookupError("inside")


def test_the_summary_says_once_what_to_do_about_the_same_thing() -> None:
    failed = [outcome(number, Kind.FAILED, ("vifs",)) for number in (1, 2)]

    text = drawn(summary(result(*failed, outcome(3))))

    assert text.count("to do") == 1
    assert "to do (2): correct what the hypervisor reports" in text
    assert "bringup retry UUID" in " ".join(text.split())
