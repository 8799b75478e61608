"""RabbitMQ and nova-conductor are killed, hang and come back during a run: nothing is lost, nothing is done twice.

The cloud is one that no other test has; each test may lay hands on its services.
"""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.crashed import Crashed
from support.nova import Nova, a_nova_to_break
from support.process import Ended, Running

pytestmark = pytest.mark.timeout(300)
LONG_S = 200


@pytest.fixture
def nova() -> Nova:
    return a_nova_to_break()


def broker_crashes(crashed: Crashed, command: Running) -> None:
    command.until("instance.initialized")
    crashed.nova.broker.stop(signal.SIGKILL)
    crashed.nova.broker.start()


def conductor_crashes(crashed: Crashed, command: Running) -> None:
    command.until("instance.initialized")
    crashed.nova.conductor.stop(signal.SIGKILL)
    crashed.nova.conductor.start()


def conductor_hangs(crashed: Crashed, command: Running) -> None:
    command.until("instance.initialized")
    crashed.nova.conductor.stop(signal.SIGSTOP)
    crashed.nova.broker.ctl("list_queues")
    crashed.nova.conductor.stop(signal.SIGCONT)


HARDSHIPS: dict[str, Callable[[Crashed, Running], None]] = {
    "RabbitMQ is killed": broker_crashes,
    "nova-conductor is killed": conductor_crashes,
    "nova-conductor hangs": conductor_hangs,
}


@pytest.mark.parametrize("hardship", HARDSHIPS.values(), ids=HARDSHIPS)
def test_nothing_is_lost_and_nothing_is_done_twice(
    nova: Nova, tmp_path: Path, hardship: Callable[[Crashed, Running], None]
) -> None:
    crashed = Crashed(nova, tmp_path)

    with crashed.host.computer.stay("--once") as command:
        hardship(crashed, command)
        command.process.wait(LONG_S)
        ended = command.end()

    assert ended.code == 0, ended.out[-5000:] + ended.err
    # A look right after a start waits for ten seconds, and it may take RabbitMQ longer to come back.
    errors = [event for event in ended.events if event["level"] == "error" and event["event"] != "claim.not_released"]
    assert errors == []
    crashed.check()


def test_killed_in_the_middle_the_next_start_continues(nova: Nova, tmp_path: Path) -> None:
    crashed = Crashed(nova, tmp_path)
    with crashed.host.computer.stay("--once") as command:
        command.until("instance.initialized")
        command.end(signal.SIGKILL)

    ended = crashed.host.computer.run()

    assert ended.code == 0, ended.out[-5000:] + ended.err
    [goes_on] = ended.named("run.continued")
    assert goes_on["attempt"] == 2
    crashed.check()


def test_what_cannot_be_saved_stays_as_it_was_and_the_next_start_finishes_it(nova: Nova, tmp_path: Path) -> None:
    crashed = Crashed(nova, tmp_path, messaging={"deadline": 2})
    with crashed.host.computer.stay("--once") as command:
        command.until("instance.initialized")
        nova.conductor.stop(signal.SIGKILL)
        ended = command.end()

    failed = ended.named("instance.failed")
    assert failed
    # To a call, or to all that were made for one step in its time.
    unanswered = ("nova-conductor did not answer", "nova-conductor does not answer in 6 s")
    assert all(any(words in event["message"] for words in unanswered) for event in failed)

    nova.conductor.start()
    ended = crashed.host.computer.run()

    assert ended.code == 0, ended.out[-5000:] + ended.err
    crashed.check()


def _unavailable(crashed: Crashed, before: dict[str, Any]) -> Ended:
    ended = crashed.host.computer.once()
    assert ended.code == 75, ended.out + ended.err
    assert "no instance was touched" in ended.err
    assert "s3cr3t" not in ended.out + ended.err
    assert crashed.rows() == before
    return ended


def test_no_instance_is_touched_while_nobody_answers(nova: Nova, tmp_path: Path) -> None:
    crashed = Crashed(nova, tmp_path, messaging={"deadline": 1})
    before = crashed.rows()

    nova.conductor.stop(signal.SIGKILL)
    assert "nova-conductor did not answer" in _unavailable(crashed, before).err

    nova.broker.stop(signal.SIGKILL)
    ended = _unavailable(crashed, before)
    assert f"RabbitMQ at 127.0.0.1:{nova.broker.port} does not answer" in ended.err
