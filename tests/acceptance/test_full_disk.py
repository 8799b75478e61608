"""No room on the disk: what cannot be kept is said, what was acknowledged is there, and the host comes back.

``RLIMIT_FSIZE`` stands for the disk: a write beyond it fails, as one to a full disk does.
"""

import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.storage.record_files import Records, dump_records
from support.computer import Computer, a_computer
from support.ports import free_port
from support.process import ENVIRONMENT, run
from support.records import instance, uuid_of
from support.scheduler import receiver
from support.surroundings import Within, at_most

LITTLE = 64 * 1024
"""Bytes: SQLite's index of its log is half of it."""
NOTHING = 0
MANY = tuple(instance(number) for number in range(1, 251))
"""Their report has more bytes than LITTLE; their records need no save."""


def interrupted(number: int) -> Instance:
    return instance(number, task_state=TaskState.REBOOT_STARTED_HARD, power_state=PowerState.SHUTDOWN)


def many(directory: Path, scheduler: str) -> Computer:
    return a_computer(directory, scheduler=scheduler).guests(MANY).records(MANY)


def test_a_report_that_cannot_be_written_is_sent_all_the_same(tmp_path: Path) -> None:
    with receiver(tmp_path / "scheduler") as scheduler:
        ended = many(tmp_path, scheduler.url).run(within=Within(at_most, LITTLE))

        assert ended.code == 0
        assert [len(report["instances"]) for report in scheduler.reports] == [len(MANY)]
    [problem] = ended.named("report.not_written")
    assert "outbox" in problem["problem"]
    assert set(ended.outcomes.values()) == {"initialized"}


def test_a_report_neither_written_nor_sent_is_logged_as_lost_with_the_process(tmp_path: Path) -> None:
    computer = many(tmp_path, f"http://127.0.0.1:{free_port()}")

    ended = computer.run(within=Within(at_most, LITTLE))

    assert ended.code == 75
    assert ended.named("report.not_written")
    assert ended.named("report.not_acknowledged")
    assert computer.waiting == []
    # Nothing half written is left in the way of the next one.
    assert computer.run().code == 75
    assert len(computer.waiting) == 1


def test_a_daemon_writes_the_report_when_the_disk_takes_it_again(tmp_path: Path) -> None:
    port = free_port()
    computer = many(tmp_path, f"http://127.0.0.1:{port}")
    with computer.stay(within=Within(at_most, LITTLE)) as daemon:
        daemon.until("report.not_written")
        daemon.until("service.ready")
        resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        # One more attempt has begun after this one.
        for _ in range(3):
            daemon.until("report.not_acknowledged")
        assert len(computer.waiting) == 1
        daemon.end(signal.SIGKILL)

    with receiver(tmp_path / "scheduler", port=port) as scheduler:
        assert computer.run().code == 0
        assert [len(report["instances"]) for report in scheduler.reports] == [len(MANY)] * 2


def test_a_store_on_a_full_disk_is_reported_before_an_instance_is_touched(tmp_path: Path) -> None:
    computer = a_computer(tmp_path).guests([instance(1)]).records([interrupted(1)])
    before = computer.stored()

    ended = computer.once(within=Within(at_most, NOTHING), afresh=True)

    assert ended.code == 75
    assert str(computer.store) in ended.err
    assert "disk is full" in ended.err
    assert "Traceback" not in ended.err + ended.out
    assert computer.stored() == before


def test_saves_that_do_not_fit_fail_their_instances_and_what_was_saved_is_there(tmp_path: Path) -> None:
    instances = [instance(n, vm_state=VmState.BUILDING, task_state=TaskState.SPAWNING) for n in range(1, 61)]
    computer = a_computer(tmp_path).having(limits={"concurrency": 2}).guests([]).records([*instances, instance(99)])

    ended = computer.run(within=Within(at_most, LITTLE))

    assert ended.code == 0
    stored = computer.stored()
    outcomes = ended.outcomes
    saved = {one.uuid for one in instances if stored[one.uuid].vm_state is VmState.ERROR}
    # What the run says was done is there, and what is not there was said to have failed.
    assert {uuid for uuid, outcome in outcomes.items() if outcome == "initialized"} - {uuid_of(99)} == saved
    failed = ended.named("instance.failed")
    assert failed
    assert all("disk is full or failing" in line["message"] for line in failed)

    assert set(computer.run().outcomes.values()) <= {"initialized", "skipped", "failed"}
    assert all(one.vm_state is VmState.ERROR for uuid, one in computer.stored().items() if uuid != uuid_of(99))


def test_an_import_on_a_full_disk_stores_nothing(tmp_path: Path) -> None:
    computer = a_computer(tmp_path).guests([]).records([instance(1)])
    before = computer.stored()
    file = computer.directory / "records.json"
    file.write_text(dump_records(Records(instances=tuple(instance(n) for n in range(2, 90)), migrations=())))

    ended = run("import", str(file), *computer.arguments, env=ENVIRONMENT, within=Within(at_most, LITTLE))

    assert ended.code == 75
    assert "nothing was stored" in ended.err
    assert "disk is full" in ended.err
    assert computer.stored() == before


def test_a_log_that_no_disk_takes_does_not_end_the_work(tmp_path: Path) -> None:
    with receiver(tmp_path / "scheduler") as scheduler, Path("/dev/full").open("w") as full:
        computer = a_computer(tmp_path, scheduler=scheduler.url).guests([instance(1)]).records([interrupted(1)])

        done = computer.once(stdout=full, afresh=True)

        assert [len(report["instances"]) for report in scheduler.reports] == [1]
    assert (done.code, done.err) == (0, "")
    assert computer.stored()[uuid_of(1)].task_state is None


@pytest.mark.parametrize(("arguments", "code"), [(("history",), 75), (("check",), 75), (("history", "--nonsense"), 64)])
def test_an_output_that_no_disk_takes_is_reported_and_has_a_documented_code(
    tmp_path: Path, arguments: tuple[str, ...], code: int
) -> None:
    computer = a_computer(tmp_path).guests([])
    with Path("/dev/full").open("w") as full:
        ended = [run(*arguments, *computer.arguments, stdout=full, stderr=stderr) for stderr in (subprocess.PIPE, full)]

    assert [each.code for each in ended] == [code, code]
    assert "Traceback" not in ended[0].err
    assert code != os.EX_TEMPFAIL or "cannot write standard output (No space left on device)" in ended[0].err
