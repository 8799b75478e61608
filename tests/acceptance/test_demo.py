"""``bringup demo`` from its start to its end, and what it leaves behind: no process, whatever ends it."""

import json
import signal
from pathlib import Path

import pytest

from support.demonstrated import SHOWN
from support.polling import until
from support.process import ENVIRONMENT, Running, children_of, gone, run, running
from support.screen import CTRL_C, on_a_screen
from support.status import silent_client

# Placement, the scheduler, and who answers at the status socket.
CHILDREN = 3


def children_with_a_client(pid: int, directory: Path) -> list[int]:
    with silent_client(directory / "state" / "status.sock"):
        until(lambda: len(children_of(pid)) == CHILDREN, "the process that answers")
    return children_of(pid)


def children_when_it_runs(demo: Running, directory: Path) -> list[int]:
    demo.until("placement.passed")
    return children_with_a_client(demo.process.pid, directory)


# The one that hangs takes 8 s.
def test_the_demonstration_shows_every_rule_and_leaves_no_process_behind(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    with running("demo", "--json", "--directory", str(directory)) as demo:
        children = children_when_it_runs(demo, directory)
        ended = demo.end()

    assert (ended.code, ended.err) == (0, "")
    because = {event["instance"]: event["because"] for event in ended.events if "because" in event}
    assert {rule for rules in because.values() for rule in rules} == SHOWN
    [end] = ended.named("run.ended")
    assert len(because) == end["initialized"] + end["failed"] + end["skipped"] >= 60
    assert end["unfinished"] == 0
    failures = {event["error"] for event in ended.named("instance.failed")}
    assert {"DeadlineExceeded", "VirtualInterfacePlugError"} < failures
    [report] = [json.loads(path.read_text()) for path in (directory / "scheduler").glob("*.json")]
    assert report["complete"]
    named = {one["uuid"] for one in (*report["instances"], *report["elsewhere"])} | set(report["deleted"])
    assert named == because.keys()
    assert report["deleted"]
    assert report["elsewhere"]
    assert directory.stat().st_mode & 0o777 == 0o700
    assert all(gone(child) for child in children)


def test_ctrl_c_stops_the_demonstration_with_a_report(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    with on_a_screen("demo", "--directory", str(directory)) as screen:
        screen.until(r"compute-1 lost power with \d+ instances")
        # Some failed, others are on their way: the one that hangs among them.
        screen.until(r"[3-9]\d/\d+ done, [^/]*\d failed,\s+\d\s+running,\s+\d+\s+waiting,\s+[\d.]+/s,\s+ETA")
        children = children_with_a_client(screen.process.pid, directory)
        screen.press(CTRL_C)
        assert screen.end() == 75

    text = screen.text
    assert all(gone(child) for child in children)
    assert "Traceback" not in text
    assert "unfinished" in text
    assert "The scheduler received report" in text
    assert "What to try next" in text
    assert f"bringup plan -c {directory / 'bringup.toml'}" in text


def test_a_kill_leaves_no_process_behind_and_the_directory_can_be_used_again(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    with running("demo", "--json", "--directory", str(directory)) as demo:
        children = children_when_it_runs(demo, directory)
        demo.end(signal.SIGKILL)
        assert all(gone(child) for child in children)

    (directory / "left.behind").touch()
    with running("demo", "--json", "--directory", str(directory)) as again:
        children = children_when_it_runs(again, directory)
        assert not (directory / "left.behind").exists()
        assert again.end(signal.SIGTERM).code == 75
        assert all(gone(child) for child in children)

    # What it left can be looked at with the other commands.
    plan = run("plan", "--json", "-c", str(directory / "bringup.toml"), env=ENVIRONMENT)
    assert (plan.code, plan.err) == (0, "")
    assert len(plan.events) >= 60


@pytest.mark.parametrize("what", ["foreign files", "a file", "no place"])
def test_a_directory_that_is_not_its_own_is_left_alone(tmp_path: Path, what: str) -> None:
    directory = tmp_path / "photos"
    if what == "foreign files":
        directory.mkdir()
        (directory / "holiday.jpg").write_text("mine")
    elif what == "a file":
        directory.write_text("mine")
    else:
        directory = Path("/proc/photos")

    ended = run("demo", "--directory", str(directory), env=ENVIRONMENT)

    assert (ended.code, ended.out) == (64, "")
    assert ended.err.startswith(f"bringup: --directory {directory}: ")
    assert ended.err.count("\n") == 1
    if what == "foreign files":
        assert [path.name for path in directory.iterdir()] == ["holiday.jpg"]
    elif what == "a file":
        assert directory.read_text() == "mine"
