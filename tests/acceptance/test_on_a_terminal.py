"""A person at a terminal sees how far it is and a table; everybody else gets JSON lines."""

import json
from pathlib import Path

import pytest

from bringup.daemon.decisions.states import TaskState, VmState
from bringup.drivers.simulated import Fault
from support.computer import Computer, a_computer
from support.records import instance, uuid_of
from support.scheduler import receiver
from support.screen import CTRL_C, on_a_screen

INSTANCES = (
    instance(1),
    instance(2),
    instance(3, vm_state=VmState.BUILDING, task_state=TaskState.SPAWNING),
    instance(4),
)
BROKEN = Fault(verb="plug_vifs", uuid=uuid_of(4), error="VirtualInterfacePlugError", message="no [bridge] here")


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    return a_computer(tmp_path).guests(INSTANCES, BROKEN, latency={"plug_vifs": 0.4}).records(INSTANCES)


def test_progress_is_shown_while_it_runs_and_a_table_when_it_is_over(computer: Computer, tmp_path: Path) -> None:
    with receiver(tmp_path / "scheduler") as scheduler:
        computer.having(scheduler={"transport": "http", "url": f"{scheduler.url}/reports"})
        with on_a_screen("run", "--once", *computer.arguments, afresh=True) as screen:
            screen.until(r"\d/4 done, (?:1 set to error, )?\d running, \d waiting")
            screen.until(r"plug_vifs")
            assert screen.end() == 0

    text = screen.text
    assert "compute-1: 4 instances in" in text
    assert "build_interrupted" in text
    assert f"failed vm 4 ({uuid_of(4)})  plug_vifs: " in text
    assert "no [bridge] here" in text
    assert "The scheduler acknowledged the report." in text
    # No line of the log: all of it is in the table.
    assert '"event"' not in text
    assert "instance.initialized" not in text


def test_a_daemon_reports_that_it_stays_and_ends_on_ctrl_c(computer: Computer) -> None:
    with on_a_screen("run", *computer.arguments) as screen:
        screen.until("Ready: .* Stop with Ctrl-C")
        screen.until("Reporting is disabled")
        screen.press(CTRL_C)
        assert screen.end() == 0

    assert "Traceback" not in screen.text


def test_ctrl_c_in_the_middle_shows_what_was_done_and_what_was_not(computer: Computer) -> None:
    hangs = Fault(verb="plug_vifs", uuid=uuid_of(2), hang=True)
    computer.guests(INSTANCES, hangs)
    with on_a_screen("run", "--once", *computer.arguments) as screen:
        screen.until(r"3/4 done, 2 left running, 1 set to error, 1 running")
        screen.press(CTRL_C)
        assert screen.end() == 75

    assert "unfinished" in screen.text
    assert "Traceback" not in screen.text


def test_what_is_waited_for_is_shown(computer: Computer) -> None:
    computer.having(placement={"url": "http://127.0.0.1:1", "wait": 20})
    with on_a_screen("run", *computer.arguments) as screen:
        screen.until(r"placement +waiting for Placement, attempt \d, last: connection refused")
        screen.press(CTRL_C)
        assert screen.end() == 0


def test_why_it_did_not_start_is_the_last_line(computer: Computer) -> None:
    computer.having(placement={"url": "http://127.0.0.1:1", "wait": 0})
    with on_a_screen("run", *computer.arguments) as screen:
        assert screen.end() == 69

    assert screen.text.strip().splitlines()[-1].startswith("bringup: cannot start without Placement")


@pytest.mark.parametrize("how", [("--json",), ("--set", "log.format=json")], ids=" ".join)
def test_json_is_json_on_a_terminal_too(computer: Computer, how: tuple[str, ...]) -> None:
    with on_a_screen("run", "--once", *how, *computer.arguments) as screen:
        assert screen.end() == 0

    events = [json.loads(line)["event"] for line in screen.text.splitlines()]
    assert events.count("run.ended") == 1


def test_elsewhere_it_is_json_without_being_asked_for(computer: Computer) -> None:
    ended = computer.once()

    assert [event["event"] for event in ended.events].count("run.ended") == 1
    assert "\x1b" not in ended.out + ended.err


def test_lines_for_people_can_be_had_elsewhere_too(computer: Computer) -> None:
    ended = computer.having(log={"format": "console"}).once()

    assert ended.code == 0
    assert "run.ended" in ended.out
    assert "\x1b" not in ended.out
    with pytest.raises(ValueError, match=r"Expecting value|Extra data"):
        _ = ended.events
