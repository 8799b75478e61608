"""A report is never lost: whatever the scheduler does, it waits on disk until it is acknowledged."""

import json
import os
import signal
from pathlib import Path

import pytest

from bringup.drivers.simulated import Fault
from support.computer import Computer, a_computer
from support.ports import free_port
from support.records import instance, uuid_of
from support.scheduler import receiver

INSTANCES = (instance(1), instance(2))


def a_host(directory: Path, port: int, *faults: Fault) -> Computer:
    computer = a_computer(directory, scheduler=f"http://127.0.0.1:{port}")
    return computer.guests(INSTANCES, *faults).records(INSTANCES)


def test_a_report_that_nobody_takes_waits_and_the_next_start_sends_it(tmp_path: Path) -> None:
    port = free_port()
    computer = a_host(tmp_path, port)

    ended = computer.run()

    assert (ended.code, ended.err) == (75, "")
    assert set(ended.outcomes.values()) == {"initialized"}
    [waiting] = computer.waiting
    assert waiting.stat().st_mode & 0o777 == 0o600
    assert waiting.parent.stat().st_mode & 0o777 == 0o700
    [warning] = ended.named("report.not_acknowledged")
    assert f"127.0.0.1:{port}" in warning["problem"]
    kept = json.loads(waiting.read_text())

    with receiver(tmp_path / "scheduler", port=port) as scheduler:
        assert computer.run().code == 0
        assert scheduler.reports[0] == kept
        assert len(scheduler.reports) == 2
    assert computer.waiting == []


def test_the_running_daemon_sends_it_when_the_scheduler_comes_up(tmp_path: Path) -> None:
    port = free_port()
    with a_host(tmp_path, port).stay() as daemon:
        daemon.until("service.ready")
        daemon.until("report.not_acknowledged")
        with receiver(tmp_path / "scheduler", port=port) as scheduler:
            acknowledged = daemon.until("report.acknowledged")
            assert [report["report_id"] for report in scheduler.reports] == [acknowledged["report_id"]]
        assert daemon.end(signal.SIGTERM).code == 0


def test_what_a_former_start_left_is_sent_by_the_running_daemon(tmp_path: Path) -> None:
    port = free_port()
    computer = a_host(tmp_path, port)
    computer.run()
    with computer.stay() as daemon:
        daemon.until("service.ready")
        with receiver(tmp_path / "scheduler", port=port) as scheduler:
            daemon.until("report.acknowledged")
            daemon.until("report.acknowledged")
            assert len(scheduler.reports) == 2
        daemon.end(signal.SIGTERM)
    assert computer.waiting == []


def test_an_instance_that_hangs_does_not_keep_the_report_from_being_sent(tmp_path: Path) -> None:
    with receiver(tmp_path / "scheduler") as scheduler:
        computer = a_computer(tmp_path, scheduler=scheduler.url).having(limits={"instance_deadline": 3})
        computer.guests(INSTANCES, Fault(verb="plug_vifs", uuid=uuid_of(1), hang=True)).records(INSTANCES)

        ended = computer.run()

    assert ended.code == 0
    [report] = scheduler.reports
    assert report["complete"]
    outcomes = {one["uuid"]: one for one in report["instances"]}
    assert outcomes[uuid_of(2)]["outcome"] == "initialized"
    problem = outcomes[uuid_of(1)]["problem"]
    assert problem is not None
    assert problem["error"] == "DeadlineExceeded"


@pytest.mark.parametrize(
    ("status", "code", "waiting"),
    [(503, 75, 1), (401, 75, 1), (422, 0, 0)],
    ids=str,
)
def test_what_the_scheduler_answers_decides_what_becomes_of_the_report(
    tmp_path: Path, status: int, code: int, waiting: int
) -> None:
    with receiver(tmp_path / "scheduler", status=status) as scheduler:
        computer = a_computer(tmp_path, scheduler=scheduler.url).guests(INSTANCES).records(INSTANCES)

        ended = computer.run()

    said = ended.named("report.not_acknowledged") + ended.named("report.rejected")
    assert [str(status) in event["problem"] for event in said] == [True]
    assert (ended.code, len(computer.waiting)) == (code, waiting)
    # Set aside, not thrown away.
    assert len(list((computer.state / "outbox" / "rejected").glob("*.json"))) == 1 - waiting


def test_an_answer_that_is_lost_means_that_it_is_sent_again_under_the_same_key(tmp_path: Path) -> None:
    with receiver(tmp_path / "scheduler", drop_first=1) as scheduler:
        computer = a_computer(tmp_path, scheduler=scheduler.url).guests(INSTANCES).records(INSTANCES)
        with computer.stay() as daemon:
            refused = daemon.until("report.not_acknowledged")
            taken = daemon.until("report.acknowledged")
            daemon.end(signal.SIGTERM)

    assert taken["report_id"] == refused["report_id"]
    assert len(scheduler.reports) == 1


def test_a_report_that_is_damaged_is_set_aside_and_the_others_are_sent(tmp_path: Path) -> None:
    port = free_port()
    computer = a_host(tmp_path, port)
    computer.run()
    [waiting] = computer.waiting
    os.truncate(waiting, waiting.stat().st_size // 2)

    with receiver(tmp_path / "scheduler", port=port) as scheduler:
        ended = computer.run()

    assert (ended.code, len(scheduler.reports)) == (0, 1)
    [corrupt] = ended.named("outbox.corrupt")
    assert Path(corrupt["kept"]).exists()


def test_a_host_that_could_not_start_keeps_what_waits(tmp_path: Path) -> None:
    port = free_port()
    computer = a_host(tmp_path, port)
    computer.run()
    before = [path.read_bytes() for path in computer.waiting]
    (tmp_path / "scenario.json").write_text("{")

    with receiver(tmp_path / "scheduler", port=port):
        assert computer.run().code == 78

    assert [path.read_bytes() for path in computer.waiting] == before
