"""``run --once --json`` as systemd, or a script, sees it: lines, exit code, records, and what the scheduler got."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bringup.daemon.cli.demo_site.scheduler_receiver import Receiver
from bringup.daemon.decisions.states import PowerState, TaskState, UnknownState, VmState
from bringup.drivers.simulated import Fault, Scenario, SimulatedGuest, dump_scenario
from support.computer import Computer, a_computer
from support.process import ENVIRONMENT
from support.records import instance, migration, uuid_of
from support.scheduler import receiver

INSTANCES = (
    instance(1),
    instance(2, vm_state=UnknownState("hibernating")),
    instance(3, task_state=UnknownState("teleporting")),
    instance(4, vm_state=VmState.BUILDING, task_state=TaskState.SPAWNING),
    instance(5, task_state=TaskState.REBOOT_STARTED_HARD, power_state=PowerState.SHUTDOWN),
    instance(6, vm_state=VmState.SOFT_DELETED),
    instance(7),
    instance(8, host="compute-2"),
)
EXPECTED = {
    uuid_of(1): "initialized",
    uuid_of(2): "failed",
    uuid_of(3): "failed",
    uuid_of(4): "initialized",
    uuid_of(5): "initialized",
    uuid_of(6): "skipped",
    uuid_of(7): "failed",
    uuid_of(8): "initialized",
}
BROKEN = Fault(verb="plug_vifs", uuid=uuid_of(7), error="VirtualInterfacePlugError", message="no such bridge")


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Receiver]:
    with receiver(tmp_path / "scheduler") as taken:
        yield taken


@pytest.fixture
def computer(tmp_path: Path, scheduler: Receiver) -> Computer:
    computer = a_computer(tmp_path, scheduler=scheduler.url).having(evacuated={"shared_storage": "local"})
    return computer.guests(INSTANCES, BROKEN).records(INSTANCES, [migration(8)])


def test_every_instance_has_one_line_of_json_and_its_place_in_the_one_report(
    computer: Computer, scheduler: Receiver
) -> None:
    ended = computer.run()

    assert (ended.code, ended.err) == (0, "")
    assert ended.outcomes == EXPECTED
    assert all({"event", "level", "timestamp"} <= event.keys() for event in ended.events)
    assert [len(ended.named(name)) for name in ("service.started", "placement.passed", "run.ended")] == [1, 1, 1]
    [end] = ended.named("run.ended")
    assert (end["initialized"], end["failed"], end["skipped"], end["unfinished"]) == (4, 3, 1, 0)
    assert end["error"] is None
    # The scheduler got one report with every instance.
    [report] = scheduler.reports
    told = {one["uuid"]: one["outcome"] for one in (*report["instances"], *report["elsewhere"])}
    assert told == EXPECTED
    assert (report["complete"], report["error"], report["unfinished"]) == (True, None, [])
    assert report["run_id"] == end["run_id"]
    assert computer.waiting == []


def test_an_unknown_state_is_that_instances_outcome_and_the_others_continue(computer: Computer) -> None:
    ended = computer.run()

    unknown = {event["instance"]: event for event in ended.named("instance.failed")}
    assert unknown[uuid_of(2)]["because"] == ["unknown_state"]
    assert "vm_state hibernating" in unknown[uuid_of(2)]["message"]
    assert "task_state teleporting" in unknown[uuid_of(3)]["message"]
    assert computer.stored()[uuid_of(2)].vm_state == UnknownState("hibernating")
    assert computer.stored()[uuid_of(3)].task_state == UnknownState("teleporting")
    assert ended.outcomes[uuid_of(1)] == "initialized"


def test_a_second_run_reports_again_and_changes_nothing_that_is_settled(
    computer: Computer, scheduler: Receiver
) -> None:
    before = computer.stored()
    computer.run()
    after = computer.stored()

    ended = computer.run()

    assert ended.code == 0
    assert after != before
    assert computer.stored() == after
    # The evacuated one is gone, and its evacuation is completed: there is no more to say of it.
    assert ended.outcomes.keys() == EXPECTED.keys() - {uuid_of(8)}
    assert len({report["report_id"] for report in scheduler.reports}) == 2
    assert all(report["complete"] for report in scheduler.reports)


def test_a_host_without_instances_comes_back_and_reports_it(tmp_path: Path, scheduler: Receiver) -> None:
    ended = a_computer(tmp_path, scheduler=scheduler.url).guests([]).run()

    assert (ended.code, ended.outcomes) == (0, {})
    assert [report["instances"] for report in scheduler.reports] == [[]]


def test_without_a_scheduler_nothing_is_sent(tmp_path: Path) -> None:
    computer = a_computer(tmp_path).guests([]).records([instance(1, vm_state=VmState.STOPPED)])

    assert computer.run().code == 0
    assert not (computer.state / "outbox").exists()


def test_a_limit_holds_also_where_all_hang_and_the_deadline_ends_each(tmp_path: Path) -> None:
    instances = [instance(number) for number in range(1, 5)]
    faults = [Fault(verb="plug_vifs", uuid=one.uuid, hang=True) for one in instances]
    computer = a_computer(tmp_path).having(limits={"concurrency": 2, "instance_deadline": 2})

    ended = computer.guests(instances, *faults).records(instances).run()

    assert ended.code == 0
    assert set(ended.outcomes.values()) == {"failed"}
    lines = ended.named("instance.failed")
    assert {line["error"] for line in lines} == {"DeadlineExceeded"}
    # Two at once, so the deadlines of four last twice as long as one; each begins with its slot, not in the queue.
    [run_s] = [line["took_s"] for line in ended.named("run.ended")]
    took_s = [line["took_s"] for line in lines]
    assert run_s >= 4
    assert min(took_s) >= 2
    assert sum(took_s) <= 2 * run_s + 0.01


def test_the_environment_and_the_command_line_are_heard(tmp_path: Path) -> None:
    computer = a_computer(tmp_path).guests([])
    url = computer.sections["placement"]["url"]
    computer.having(placement={"url": None})

    assert computer.run().code == 78
    assert computer.run("--set", f"placement.url={url}").code == 0
    assert computer.run(env=ENVIRONMENT | {"BRINGUP_PLACEMENT__URL": url}).code == 0


@pytest.mark.parametrize("guests", ["never", "on_host_boot"])
def test_guests_that_ran_and_stay_off_by_the_settings_are_named(tmp_path: Path, guests: str) -> None:
    stopped = instance(2, vm_state=VmState.STOPPED, power_state=PowerState.SHUTDOWN)
    computer = a_computer(tmp_path).having(resume={"guests": guests})
    off = tuple(SimulatedGuest(uuid=uuid_of(n), name=f"g{n}", power_state=PowerState.SHUTDOWN) for n in (1, 2))
    (tmp_path / "scenario.json").write_text(dump_scenario(Scenario(guests=off)))
    computer.records([instance(1, block_devices=()), stopped])

    ended = computer.run()

    told = [(event["count"], event["first"], event["level"]) for event in ended.named("run.not_resumed")]
    assert told == ([(1, [uuid_of(1)], "warning")] if guests == "never" else [])
