"""What a host has to come back through: no log, a wrong name, a driver that hangs at the end, a hang-up."""

import contextlib
import fcntl
import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bringup.daemon.cli.demo_site.scheduler_receiver import Receiver
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.recovery.init_host import STOPPED
from bringup.daemon.service.assembly import CLOSE_S
from bringup.daemon.storage.outbox.report import Report
from bringup.drivers.simulated import Fault
from support.computer import Computer, a_computer
from support.placement import a_peer, an_answer
from support.ports import free_port
from support.process import BRINGUP, ENVIRONMENT, PATIENCE_S, run, running, started
from support.records import HOST, instance, uuid_of
from support.scheduler import receiver

INSTANCES = (
    instance(1),
    instance(2),
    instance(3, vm_state=VmState.BUILDING, task_state=TaskState.SPAWNING),
)
HANGS = Fault(verb="plug_vifs", uuid=uuid_of(2), hang=True)
# More lines than the smallest pipe holds, and a save each.
MANY = tuple(
    instance(number, task_state=TaskState.REBOOT_STARTED_HARD, power_state=PowerState.SHUTDOWN)
    for number in range(1, 41)
)
SMALLEST_PIPE = 4096
A_LITTLE_S = 20.0


def assert_all_settled(computer: Computer) -> None:
    stored = computer.stored()
    assert len(stored) == len(MANY)
    assert {(one.vm_state, one.task_state) for one in stored.values()} == {(VmState.ACTIVE, None)}


def until_its_reader_leaves(*arguments: str, lines: int) -> tuple[int, str]:
    """Run a command whose output is read so far and no further; return its code and what it said elsewhere."""
    one = started(arguments)
    assert one.stdout is not None
    assert one.stderr is not None
    # It cannot have written all of it before its reader leaves.
    fcntl.fcntl(one.stdout, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
    for _ in range(lines):
        assert one.stdout.readline()
    one.stdout.close()
    with one.stderr:
        said = one.stderr.read()
    return one.wait(PATIENCE_S), said


def with_output_to(target: str, computer: Computer) -> tuple[int, str]:
    """Run once, by way of a shell that redirects its output; return its code and what it said elsewhere."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {target}', "sh", *BRINGUP, "run", "--once", "--json", *computer.arguments],
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        check=False,
        timeout=60,
        text=True,
    )
    return done.returncode, done.stderr


def test_a_reader_that_leaves_does_not_end_the_work(tmp_path: Path) -> None:
    with receiver(tmp_path / "scheduler") as scheduler:
        computer = a_computer(tmp_path, scheduler=scheduler.url).guests(MANY).records(MANY)

        ended = until_its_reader_leaves("run", "--once", "--json", *computer.arguments, lines=3)

        assert ended == (0, "")
        [report] = scheduler.reports
    assert (report["complete"], len(report["instances"])) == (True, len(MANY))
    assert_all_settled(computer)


@pytest.mark.parametrize("target", [">/dev/full", ">&-", ">&- 2>&-"], ids=["full", "closed", "nothing-open"])
def test_an_output_that_takes_nothing_does_not_end_the_work(tmp_path: Path, target: str) -> None:
    with receiver(tmp_path / "scheduler") as scheduler:
        computer = a_computer(tmp_path, scheduler=scheduler.url).guests(MANY).records(MANY)

        assert with_output_to(target, computer) == (0, "")

        [report] = scheduler.reports
    assert (report["complete"], len(report["instances"])) == (True, len(MANY))
    assert_all_settled(computer)


def test_a_run_whose_reader_leaves_ends_with_its_own_code(tmp_path: Path) -> None:
    computer = a_computer(tmp_path, scheduler=f"http://127.0.0.1:{free_port()}").guests(MANY).records(MANY)

    ended = until_its_reader_leaves("run", "--once", "--json", *computer.arguments, lines=1)

    assert ended == (75, "")
    assert len(computer.waiting) == 1


def test_a_run_that_could_not_begin_keeps_its_exit_code_without_a_receiver(tmp_path: Path) -> None:
    computer = a_computer(tmp_path, placement=f"http://127.0.0.1:{free_port()}").guests([])

    assert with_output_to(">/dev/full 2>/dev/full", computer) == (69, "")


def test_a_plan_whose_reader_leaves_ends_with_0(tmp_path: Path) -> None:
    computer = a_computer(tmp_path).guests(MANY).records(MANY)

    assert until_its_reader_leaves("plan", "--json", *computer.arguments, lines=1) == (0, "")


def test_a_wrong_host_name_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    computer = a_computer(tmp_path).guests(MANY).records([instance(1)])
    assert computer.run().code == 0
    strangers = [instance(n, host="compute-7", task_state=TaskState.POWERING_OFF) for n in (2, 3)]
    computer.records(strangers)
    before = computer.stored()

    refused = computer.having(host={"name": "compute-7"}).once()

    assert (refused.code, refused.out) == (78, "")
    for words in ("'compute-7'", f"'{HOST}'", "bringup accept", "host.name"):
        assert words in refused.err
    assert computer.stored() == before
    check = run("check", "--json", *computer.arguments, env=ENVIRONMENT)
    assert check.code == 78
    failed = [line for line in map(json.loads, check.out.splitlines()) if line["status"] == "failed"]
    assert [line["check"] for line in failed] == ["settings"]

    accepted = run("accept", "--json", *computer.arguments, env=ENVIRONMENT)
    assert accepted.code == 0
    assert json.loads(accepted.out)["changed"] == ["host"]
    renamed = computer.run()
    assert renamed.code == 0
    # The guest of the other name is said, and left alone.
    assert renamed.outcomes == {uuid_of(1): "skipped"} | {one.uuid: "initialized" for one in strangers}


@pytest.mark.parametrize(("mode", "warnings"), [(0o700, 0), (0o755, 1)], ids=["private", "for-all-to-see"])
def test_a_state_directory_that_others_can_look_into_is_named(tmp_path: Path, mode: int, warnings: int) -> None:
    computer = a_computer(tmp_path).guests([]).records([])
    computer.state.chmod(mode)

    ended = computer.run()

    named = ended.named("state_directory.not_private")
    assert ended.code == 0
    assert [(line["level"], line["path"], line["right"]) for line in named] == [
        ("warning", str(computer.state), "0700")
    ] * warnings


@pytest.mark.parametrize("how", [{"hang": True}, {"error": "DriverError", "message": "busy"}], ids=["hangs", "fails"])
def test_a_driver_that_cannot_be_closed_changes_nothing_and_holds_up_little(
    tmp_path: Path, how: dict[str, Any]
) -> None:
    computer = a_computer(tmp_path).guests(INSTANCES, Fault(verb="close", **how)).records(INSTANCES)
    with running("run", "--once", "--json", *computer.arguments) as command:
        command.until("run.ended")
        began = time.monotonic()
        ended = command.end()
        took_s = time.monotonic() - began

    assert (ended.code, ended.err) == (0, "")
    assert len(ended.named("driver.not_closed")) == 1
    assert took_s < (CLOSE_S if "hang" in how else 0) + A_LITTLE_S


@pytest.mark.parametrize(("once", "code"), [((), 0), (("--once",), 75)], ids=["staying", "once"])
def test_a_hang_up_in_the_middle_is_an_end_with_a_shutdown_report(
    tmp_path: Path, once: tuple[str, ...], code: int
) -> None:
    with receiver(tmp_path / "scheduler") as scheduler:
        computer = a_computer(tmp_path, scheduler=scheduler.url).guests(INSTANCES, HANGS).records(INSTANCES)
        with running("run", "--json", *once, *computer.arguments) as command:
            command.until("instance.initialized", instance=uuid_of(1))
            ended = command.end(signal.SIGHUP)

    assert (ended.code, ended.err) == (code, "")
    [report] = scheduler.reports
    assert (report["complete"], report["error"]) == (False, STOPPED)
    assert uuid_of(2) in report["unfinished"]
    assert uuid_of(1) in {one["uuid"] for one in report["instances"]}
    assert ended.named("service.stopping")[0]["signal"] == "SIGHUP"


def test_a_second_hang_up_does_not_cut_the_shutdown_report_off(tmp_path: Path) -> None:
    with receiver(tmp_path / "scheduler", hang_first=9) as scheduler:
        computer = a_computer(tmp_path, scheduler=scheduler.url).having(limits={"shutdown_report_deadline": 4})
        computer.guests(INSTANCES, HANGS).records(INSTANCES)
        with running("run", "--once", "--json", *computer.arguments) as command:
            command.until("instance.initialized", instance=uuid_of(1))
            for _ in range(3):
                command.process.send_signal(signal.SIGHUP)
                command.until("service.stopping", signal="SIGHUP")
            ended = command.end()

    assert (ended.code, ended.err) == (75, "")
    assert len(ended.named("run.ended")) == 1
    assert len(computer.waiting) == 1


class Hesitating(Receiver):
    """A scheduler that takes its time, until it is told to answer."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.asked, self.may_answer = threading.Event(), threading.Event()

    def keep(self, report: Report) -> bool:
        """Keep a report when that is allowed."""
        self.asked.set()
        self.may_answer.wait(PATIENCE_S)
        return super().keep(report)

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: who asked is gone."""


@contextlib.contextmanager
def hesitating(directory: Path) -> Iterator[Hesitating]:
    server = Hesitating(directory)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.may_answer.set()
        server.stop()
        thread.join()


@pytest.mark.parametrize(("answers", "code"), [(True, 0), (False, 75)], ids=["told", "kept"])
def test_a_signal_while_the_report_is_sent_leaves_the_code_to_the_delivery(
    tmp_path: Path, answers: object, code: int
) -> None:
    with hesitating(tmp_path / "scheduler") as scheduler:
        computer = a_computer(tmp_path, scheduler=scheduler.url).guests(INSTANCES).records(INSTANCES)
        # A quarter of it is for the scheduler.
        computer.having(limits={"shutdown_report_deadline": 40 if answers else 8}, scheduler={"timeout": 10})
        with running("run", "--once", "--json", *computer.arguments) as command:
            assert scheduler.asked.wait(PATIENCE_S)
            command.process.send_signal(signal.SIGTERM)
            command.until("service.stopping")
            if answers:
                scheduler.may_answer.set()
            ended = command.end()

    assert (ended.code, ended.err) == (code, "")
    [run_ended] = ended.named("run.ended")
    assert (run_ended["unfinished"], run_ended["error"]) == (0, None)
    assert len(computer.waiting) == (0 if answers else 1)


def test_a_report_that_its_deadline_cut_off_is_not_taken_for_told(tmp_path: Path) -> None:
    with receiver(tmp_path / "scheduler") as scheduler:
        computer = a_computer(tmp_path, scheduler=scheduler.url).guests(MANY).records(MANY)
        # Making the report takes longer.
        ended = computer.having(limits={"shutdown_report_deadline": "1us"}).run()

        assert scheduler.reports == []
    assert (ended.code, ended.err) == (75, "")
    assert len(ended.named("report.deadline_exceeded")) == 1
    assert ended.named("run.ended")[0]["unfinished"] == 0


def test_waiting_for_placement_is_logged_by_us_and_by_no_library(tmp_path: Path) -> None:
    provider = {"uuid": uuid_of(5), "name": HOST, "generation": 0}
    busy = an_answer(503, {"message": "Not now."}, x_openstack_request_id="req-busy")
    lost = an_answer(502, {"message": "Not there."}, x_openstack_request_id="req-lost")
    found = an_answer(content={"resource_providers": [provider]})
    with a_peer(busy, busy, lost, lost, found) as placement:
        computer = a_computer(tmp_path, placement=placement.url).guests([]).records([])
        ended = computer.having(placement={"wait": 30, "resource_provider": HOST}).run()

    assert (ended.code, ended.err) == (0, "")
    waits = ended.named("placement.waiting")
    # The same cause again is no line of its own.
    assert [(wait["level"], wait["attempt"], wait["request_id"]) for wait in waits] == [
        ("warning", 1, "req-busy"),
        ("warning", 3, "req-lost"),
    ]
    assert ["503" in wait["why"] for wait in waits] == [True, False]
    assert all(wait["wait_s"] > 0 for wait in waits)
    assert ended.named("placement.passed")[0]["attempts"] == 5
    assert "tenacity" not in ended.out


def test_what_tries_again_is_silent_where_the_outbox_does_too(tmp_path: Path) -> None:
    with receiver(tmp_path / "scheduler", fail_first=3) as scheduler:
        computer = a_computer(tmp_path, scheduler=scheduler.url).guests([]).records([])
        with computer.stay() as daemon:
            daemon.until("report.acknowledged")
            ended = daemon.end(signal.SIGTERM)

    assert len(ended.named("report.not_acknowledged")) == 3
    assert "tenacity" not in ended.out + ended.err
