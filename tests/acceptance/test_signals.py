"""SIGTERM and SIGKILL at any moment: it ends in time, it says what it knows, and the next start does the rest."""

import signal
import time
from pathlib import Path

import pytest

from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.recovery.init_host import STOPPED
from bringup.drivers.base import PowerState as DriverPowerState
from bringup.drivers.simulated import Fault, Scenario, SimulatedDriver, SimulatedGuest, dump_scenario
from support.computer import Computer, a_computer
from support.placement import HANG, a_peer
from support.process import Running, children_of, gone, running
from support.records import instance, uuid_of
from support.scheduler import receiver
from support.status import socket_client

INSTANCES = (
    instance(1),
    instance(2),
    instance(3, vm_state=VmState.BUILDING, task_state=TaskState.SPAWNING),
)
HANGS = Fault(verb="plug_vifs", uuid=uuid_of(2), hang=True)
PROMPTLY_S = 8.0
"""For what needs no waiting: much for a machine that is busy, less than anything is waited for by default."""


def in_its_middle(command: Running) -> None:
    command.until("instance.initialized", instance=uuid_of(1))


def seconds_to_end(command: Running, number: signal.Signals) -> tuple[float, int]:
    began = time.monotonic()
    ended = command.end(number)
    return time.monotonic() - began, ended.code


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    return a_computer(tmp_path).guests(INSTANCES).records(INSTANCES)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_it_stays_until_a_signal_and_then_ends_with_0(computer: Computer, number: signal.Signals) -> None:
    with computer.stay() as daemon:
        daemon.until("service.ready")
        assert daemon.process.poll() is None
        with socket_client(computer) as client:
            assert client.get("/readyz").status_code == 200
        [answers] = children_of(daemon.process.pid)

        took_s, code = seconds_to_end(daemon, number)

    assert code == 0
    assert gone(answers)
    assert took_s < PROMPTLY_S


@pytest.mark.parametrize(("once", "code"), [((), 0), (("--once",), 75)], ids=["staying", "once"])
def test_stopped_in_its_middle_it_reports_what_it_knows(tmp_path: Path, once: tuple[str, ...], code: int) -> None:
    with receiver(tmp_path / "scheduler") as scheduler:
        computer = a_computer(tmp_path, scheduler=scheduler.url).guests(INSTANCES, HANGS).records(INSTANCES)
        with running("run", "--json", *once, *computer.arguments) as command:
            in_its_middle(command)
            ended = command.end(signal.SIGTERM)

    assert (ended.code, ended.err) == (code, "")
    [report] = scheduler.reports
    assert (report["complete"], report["error"]) == (False, STOPPED)
    assert uuid_of(2) in report["unfinished"]
    assert uuid_of(1) in {one["uuid"] for one in report["instances"]}
    assert ended.named("service.stopping")[0]["signal"] == "SIGTERM"
    assert ended.named("run.ended")[0]["unfinished"] == len(report["unfinished"])
    assert computer.waiting == []


def test_a_scheduler_that_hangs_does_not_hold_the_end_up(tmp_path: Path) -> None:
    with receiver(tmp_path / "scheduler", hang_first=9) as scheduler:
        computer = a_computer(tmp_path, scheduler=scheduler.url).having(limits={"shutdown_report_deadline": 1})
        computer.guests(INSTANCES, HANGS).records(INSTANCES)
        with computer.stay() as daemon:
            in_its_middle(daemon)
            took_s, code = seconds_to_end(daemon, signal.SIGTERM)

    assert code == 0
    assert took_s < 1 + PROMPTLY_S
    assert len(computer.waiting) == 1


def test_more_signals_do_not_cut_the_shutdown_report_off(tmp_path: Path) -> None:
    with receiver(tmp_path / "scheduler", hang_first=9) as scheduler:
        computer = a_computer(tmp_path, scheduler=scheduler.url).having(limits={"shutdown_report_deadline": 2})
        computer.guests(INSTANCES, HANGS).records(INSTANCES)
        with running("run", "--once", "--json", *computer.arguments) as command:
            in_its_middle(command)
            command.process.send_signal(signal.SIGTERM)
            command.until("service.stopping")
            command.process.send_signal(signal.SIGINT)
            command.until("service.stopping", signal="SIGINT")
            ended = command.end()

    assert (ended.code, ended.err) == (75, "")
    assert len(computer.waiting) == 1
    assert ended.named("run.ended")


def test_it_can_be_stopped_while_it_waits_for_placement(tmp_path: Path) -> None:
    with a_peer(HANG) as silent:
        computer = a_computer(tmp_path, placement=silent.url).having(placement={"wait": 60})
        with running("run", "--json", "--once", *computer.guests([]).arguments) as command:
            command.until("service.started")
            took_s, code = seconds_to_end(command, signal.SIGTERM)

    assert code == 75
    assert took_s < PROMPTLY_S
    assert not computer.store.exists()


def test_after_a_kill_the_next_start_does_the_rest_and_sends_what_waits(tmp_path: Path) -> None:
    with receiver(tmp_path / "scheduler", status=503) as scheduler:
        computer = a_computer(tmp_path, scheduler=scheduler.url).guests(INSTANCES).records(INSTANCES[:1])
        assert computer.run().code == 75
        computer.guests(INSTANCES, HANGS).records(INSTANCES)
        with computer.stay() as killed:
            # Each has its line when its outcome is in the journal: in whatever order they end.
            settled = {killed.until("instance.initialized")["instance"] for _ in range(2)}
            assert settled == {uuid_of(1), uuid_of(3)}
            assert killed.end(signal.SIGKILL).code == -signal.SIGKILL
        [waiting] = computer.waiting
        scheduler.faults.status = None

        ended = computer.guests(INSTANCES).run()

    assert ended.code == 0
    # What was settled before the kill is settled, and in the report.
    assert ended.outcomes.keys() == {uuid_of(2)}
    assert ended.named("run.continued")[0]["settled"] == len(INSTANCES) - 1
    assert "failed" not in ended.outcomes.values()
    assert computer.stored()[uuid_of(3)].vm_state is VmState.ERROR
    first, last = scheduler.reports
    assert waiting.name.endswith(f"{first['report_id']}.json")
    assert [len(first["instances"]), len(last["instances"])] == [1, 3]
    assert computer.waiting == []


def test_after_a_kill_while_it_stays_the_next_start_is_as_the_first(computer: Computer) -> None:
    with computer.stay() as daemon:
        daemon.until("service.ready")
        daemon.end(signal.SIGKILL)
    before = computer.stored()

    ended = computer.run()

    assert ended.code == 0
    assert computer.stored() == before


def test_what_was_done_before_a_kill_is_not_done_again(tmp_path: Path) -> None:
    guests = tmp_path / "guests.sqlite"
    rebooting = instance(1, task_state=TaskState.REBOOT_STARTED_HARD, power_state=PowerState.SHUTDOWN)
    computer = a_computer(tmp_path).having(driver={"scenario_state": str(guests)})
    computer.records([rebooting, instance(2)])
    hangs_once = Fault(verb="plug_vifs", uuid=uuid_of(2), hang=True, times=1)
    shut_down = (
        SimulatedGuest(uuid=uuid_of(1), power_state=DriverPowerState.SHUTDOWN),
        SimulatedGuest(uuid=uuid_of(2)),
    )
    scenario = computer.directory / "scenario.json"
    scenario.write_text(dump_scenario(Scenario(guests=shut_down, faults=(hangs_once,))))
    with computer.stay() as killed:
        in_its_middle(killed)
        killed.end(signal.SIGKILL)

    ended = computer.run()

    assert ended.code == 0
    assert ended.outcomes == {uuid_of(2): "initialized"}
    driver = SimulatedDriver.from_file(scenario, state_path=guests)
    assert driver.done("reboot", uuid_of(1)) == 1
    assert driver.guests[uuid_of(1)].power_state is DriverPowerState.RUNNING
