"""One daemon a host: a second start says which process is in its way, and the first goes on."""

import signal
from pathlib import Path

import pytest

from support.computer import Computer, a_computer
from support.process import ENVIRONMENT, run
from support.records import instance


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    return a_computer(tmp_path).guests([instance(1)]).records([instance(1)])


def test_the_second_daemon_names_the_first_and_leaves_it_alone(computer: Computer) -> None:
    with computer.stay() as first:
        first.until("service.ready")

        second = computer.once()

        assert (second.code, second.out) == (75, "")
        assert f"another bringup (pid {first.process.pid}) runs for this host" in second.err
        assert second.err.count("\n") == 1
        assert first.process.poll() is None
        assert first.end(signal.SIGTERM).code == 0
    assert computer.once().code == 0


def test_a_lock_of_one_that_was_killed_holds_nobody_up(computer: Computer) -> None:
    with computer.stay() as first:
        first.until("service.ready")
        first.end(signal.SIGKILL)

    assert (computer.state / "lock").read_text().strip() == str(first.process.pid)
    assert computer.once().code == 0


def test_records_do_not_change_under_a_daemon(computer: Computer) -> None:
    before = computer.stored()
    file = computer.directory / "records.json"
    file.write_text(
        '{"format": "bringup.records/1", "instances": '
        f'[{{"uuid": "{instance(1).uuid}", "host": "compute-1", "vm_state": "stopped"}}]}}'
    )
    with computer.stay() as daemon:
        daemon.until("service.ready")

        ended = run("import", str(file), *computer.arguments, env=ENVIRONMENT)

        assert ended.code == 75
        assert str(daemon.process.pid) in ended.err
        assert computer.stored() == before
