"""The real command under a service manager that listens: what it says, and what SIGHUP means then."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bringup.drivers.base import PowerState
from bringup.drivers.simulated import Fault, Scenario, SimulatedGuest, dump_scenario
from support.computer import a_computer
from support.placement import a_peer, an_answer
from support.process import ENVIRONMENT, run
from support.records import instance, uuid_of
from support.service_manager import Manager

INSTANCES = (instance(1), instance(2))
HANGS = Fault(verb="plug_vifs", uuid=uuid_of(2), hang=True)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with contextlib.closing(Manager(tmp_path / "notify")) as manager:
        yield manager


def names(lines: list[str]) -> set[str]:
    return {line.partition("=")[0] for line in lines}


def test_systemd_receives_status_ready_watchdog_and_stopping(tmp_path: Path, manager: Manager) -> None:
    computer = a_computer(tmp_path).guests(INSTANCES).records(INSTANCES)
    with computer.stay(env=manager.environment) as daemon:
        before = manager.until("READY=1")
        manager.until("WATCHDOG=1")
        ended = daemon.end(signal.SIGTERM)
        manager.until("STOPPING=1")

    assert ended.code == 0
    assert before[0].startswith("EXTEND_TIMEOUT_USEC=")
    assert before[-1] == "STATUS=ready, 2/2 done, 2 left running"


def test_in_the_middle_it_names_the_slowest_and_gives_no_sign_of_life_that_would_start_the_watchdog(
    tmp_path: Path, manager: Manager
) -> None:
    computer = a_computer(tmp_path).guests(INSTANCES, HANGS).records(INSTANCES)
    with computer.stay(env=manager.environment):
        lines = manager.until(f"STATUS=1/2 done, 1 left running, slowest vm 2 ({uuid_of(2)}) plug_vifs")

    assert names(lines) == {"EXTEND_TIMEOUT_USEC", "STATUS"}


def test_a_pause_may_last_longer_than_any_deadline(tmp_path: Path, manager: Manager) -> None:
    limits = {"host_deadline": 1, "instance_deadline": 1, "stuck_after": 1}
    computer = a_computer(tmp_path).records([instance(1)]).having(limits=limits, resume={"guests": "on_host_boot"})
    computer.having(store={"wait": 1, "busy_timeout": 1})
    off = Scenario(guests=(SimulatedGuest(uuid=uuid_of(1), power_state=PowerState.SHUTDOWN),))
    (tmp_path / "scenario.json").write_text(dump_scenario(off))
    assert run("pause", "--for", "10s", *computer.arguments, env=ENVIRONMENT).code == 0
    with computer.stay("--once", env=manager.environment) as daemon:
        lines = manager.until("READY=1")
        daemon.until("run.ended")

    extended = [line for line in lines if line.startswith("EXTEND_TIMEOUT_USEC=")]
    # Each one is for three seconds.
    assert len(extended) >= 3
    assert not any("stuck" in line for line in lines)
    assert any(line.startswith("STATUS=starts paused until ") for line in lines)


def test_a_host_is_ready_during_a_pause_where_no_nova_compute_follows_it(tmp_path: Path, manager: Manager) -> None:
    computer = a_computer(tmp_path).records([instance(1)]).having(resume={"guests": "on_host_boot"})
    off = Scenario(guests=(SimulatedGuest(uuid=uuid_of(1), power_state=PowerState.SHUTDOWN),))
    (tmp_path / "scenario.json").write_text(dump_scenario(off))
    assert run("pause", "--for", "1h", *computer.arguments, env=ENVIRONMENT).code == 0
    with computer.stay(env=manager.environment) as daemon:
        manager.until("READY=1")
        daemon.until("instance.deferred", instance=uuid_of(1))
        assert run("resume", *computer.arguments, env=ENVIRONMENT).code == 0
        daemon.until("instance.initialized", instance=uuid_of(1))


def test_sighup_reloads_and_does_not_end_it(tmp_path: Path, manager: Manager) -> None:
    computer = a_computer(tmp_path).guests(INSTANCES).records(INSTANCES)
    with computer.stay(env=manager.environment) as daemon:
        daemon.until("service.ready")
        manager.until("READY=1")
        assert computer.having(limits={"concurrency": 9}).arguments
        daemon.process.send_signal(signal.SIGHUP)
        daemon.until("settings.reloaded", concurrency=9)
        lines = manager.until("READY=1")
        ended = daemon.end(signal.SIGTERM)

    assert {"RELOADING", "MONOTONIC_USEC"} <= names(lines)
    assert ended.code == 0


def test_more_slots_are_used_by_the_run_that_is_under_way(tmp_path: Path, manager: Manager) -> None:
    """The first hangs in the only slot; the reload makes another."""
    hangs = Fault(verb="plug_vifs", uuid=uuid_of(1), hang=True)
    computer = a_computer(tmp_path).guests(INSTANCES, hangs).records(INSTANCES).having(limits={"concurrency": 1})
    with computer.stay(env=manager.environment) as daemon:
        manager.until(f"STATUS=0/2 done, slowest vm 1 ({uuid_of(1)}) plug_vifs")
        assert computer.having(limits={"concurrency": 2}).arguments
        daemon.process.send_signal(signal.SIGHUP)
        daemon.until("instance.initialized", instance=uuid_of(2))
        lines = manager.until("STATUS=1/2 done")

    # A reload in the middle of a run must not say that the host is back.
    assert not names(lines) & {"READY", "RELOADING"}


def test_where_it_stops_after_init_it_has_said_that_the_host_is_back(tmp_path: Path, manager: Manager) -> None:
    computer = a_computer(tmp_path).having(service={"after_init": "stop"}).guests(INSTANCES).records(INSTANCES)

    ended = run("run", "--json", *computer.arguments, env=manager.environment)

    assert manager.until("READY=1")[-1] == "STATUS=ready, 2/2 done, 2 left running"
    assert (ended.code, set(ended.outcomes.values())) == (0, {"initialized"})
    assert ended.named("service.stopped")


def test_where_it_stops_after_init_a_report_that_is_kept_is_its_exit_code(tmp_path: Path) -> None:
    computer = a_computer(tmp_path, scheduler="http://127.0.0.1:1").having(service={"after_init": "stop"})
    computer.guests(INSTANCES).records(INSTANCES)

    ended = run("run", "--json", *computer.arguments)

    assert (ended.code, len(computer.waiting)) == (75, 1)


def test_a_keystone_that_has_no_time_is_waited_for_and_systemd_is_notified(tmp_path: Path, manager: Manager) -> None:
    with a_peer(an_answer(503, b"", retry_after="90")) as keystone:
        computer = a_computer(tmp_path, placement="http://127.0.0.1:1").guests([])
        computer.having(
            placement={"auth": "keystone", "wait": None},
            keystone={"auth_url": keystone.url, "username": "nova", "password": "s3cr3t", "project_name": "service"},
            limits={"stuck_after": 1.5},
        )
        with computer.stay(env=manager.environment) as daemon:
            manager.until("STATUS=placement: waiting for Keystone: answered 503, next attempt in ")
            # It goes on asking for time, and has neither ended nor asked again.
            for _ in range(2):
                manager.until("EXTEND_TIMEOUT_USEC=")
            ended = daemon.end(signal.SIGTERM)

    assert len(keystone.requests) == 1
    assert ended.code == 0


def test_what_ends_the_start_is_its_last_status(tmp_path: Path, manager: Manager) -> None:
    computer = a_computer(tmp_path, placement="http://127.0.0.1:1").having(placement={"wait": 0}).guests([])

    ended = computer.once(env=manager.environment)

    assert ended.code == 69
    manager.until("STATUS=failed: ")
