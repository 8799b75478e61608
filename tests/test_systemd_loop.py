"""Telling, over a real socket: what is not taken is told again, and the end and a reload have their own words."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from structlog.testing import capture_logs

from bringup.daemon.liveness import Vitals
from bringup.daemon.service.deadlines import patience_s, stopping_s
from bringup.daemon.settings import load
from bringup.daemon.status.progress import Progress
from bringup.daemon.status.systemd import Notifier, NotifierLoop
from bringup.daemon.status.systemd.messages import Rules

RULES = Rules(patience_s={"starting": 60, "done": 60}, extension_s=60, watchdog_s=0.3)


class Manager:
    """A service manager that only listens."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.end.settimeout(60)

    def listen(self) -> None:
        self.end.bind(str(self.path))

    def message(self) -> list[str]:
        return self.end.recv(4096).decode().splitlines()

    def silent(self) -> bool:
        self.end.settimeout(0)
        try:
            return not self.end.recv(4096)
        except BlockingIOError:
            return True
        finally:
            self.end.settimeout(60)


@contextmanager
def a_manager(directory: Path) -> Iterator[Manager]:
    manager = Manager(directory / "notify")
    with manager.end:
        yield manager


def a_loop(manager: Manager, progress: Progress | None = None, vitals: Vitals | None = None) -> NotifierLoop:
    snapshot = (progress or Progress()).snapshot
    return NotifierLoop(Notifier(str(manager.path), RULES.watchdog_s), snapshot, vitals or Vitals(), RULES)


def test_what_is_not_taken_is_reported_again(tmp_path: Path) -> None:
    with a_manager(tmp_path) as manager:
        notifier_loop = a_loop(manager)
        notifier_loop.back()
        manager.listen()

        notifier_loop.send_due()

        assert manager.message()[0] == "READY=1"


def test_a_reload_is_reported_around_itself_and_ends_with_ready(tmp_path: Path) -> None:
    with a_manager(tmp_path) as manager:
        manager.listen()
        notifier_loop = a_loop(manager)
        notifier_loop.back()
        manager.message()

        with notifier_loop.reloading():
            began = manager.message()
        ended = manager.message()

    assert [line.split("=")[0] for line in began] == ["RELOADING", "MONOTONIC_USEC", "STATUS"]
    assert ended[0] == "READY=1"


def test_a_reload_before_the_host_is_back_does_not_say_that_it_is(tmp_path: Path) -> None:
    with a_manager(tmp_path) as manager:
        manager.listen()
        notifier_loop = a_loop(manager)

        with notifier_loop.reloading():
            notifier_loop.send_due()

        assert [line.split("=")[0] for line in manager.message()] == ["EXTEND_TIMEOUT_USEC", "STATUS"]
        assert manager.silent()


def test_a_stop_is_reported_once_and_nothing_after_it(tmp_path: Path) -> None:
    with a_manager(tmp_path) as manager:
        manager.listen()
        notifier_loop = a_loop(manager)

        notifier_loop.stopping(within_s=65)
        notifier_loop.stopping(within_s=65)
        notifier_loop.back()

        assert manager.message()[0] == "STOPPING=1"
        assert manager.silent()


def test_what_hangs_is_logged_once_and_so_is_that_it_continues(tmp_path: Path) -> None:
    vitals = Vitals(slack_s=0)
    with a_manager(tmp_path) as manager, capture_logs() as logs:
        manager.listen()
        notifier_loop = a_loop(manager, vitals=vitals)
        notifier_loop.back()
        vitals.expect("the lease", within_s=-1)
        for _ in range(3):
            notifier_loop.send_due()
        vitals.expect("the lease", within_s=100)
        notifier_loop.send_due()

    assert [line["event"] for line in logs] == ["service.stuck", "service.recovered"]


@pytest.mark.anyio
async def test_signs_of_life_come_again_and_again(tmp_path: Path) -> None:
    with a_manager(tmp_path) as manager:
        manager.listen()
        notifier_loop = a_loop(manager)
        notifier_loop.back()
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(notifier_loop.run)
                for _ in range(4):
                    assert "WATCHDOG=1" in await anyio.to_thread.run_sync(manager.message)
                group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_where_nobody_wants_to_be_notified_it_is_over_at_once() -> None:
    notifier_loop = NotifierLoop(None, Progress().snapshot, Vitals(), RULES)
    notifier_loop.back()
    notifier_loop.stopping(within_s=1)
    with anyio.fail_after(60), notifier_loop.reloading():
        await notifier_loop.run()


def test_patience_is_longer_than_every_deadline_that_may_pass_in_the_phase() -> None:
    settings = load(None, environment={}, overrides=("limits.instance_deadline=1h", "limits.stuck_after=7s"))
    limits = settings.limits

    patience = patience_s(settings)

    assert patience["instances"] >= limits.instance_deadline + settings.store.wait + limits.stuck_after
    assert patience["placement"] >= settings.placement.wait + limits.stuck_after
    assert patience["report"] >= limits.shutdown_report_deadline + limits.stuck_after
    assert patience.keys() >= {"starting", "driver", "records", "evacuated", "allocations", "done", "failed"}
    assert stopping_s(settings) > limits.shutdown_report_deadline + 15


def test_an_hour_for_placement_is_an_hour_only_where_placement_is_waited_for() -> None:
    def patience(*overrides: str) -> Mapping[str, float]:
        return patience_s(load(None, environment={"NOTIFY_SOCKET": "/run/systemd/notify"}, overrides=overrides))

    assert patience()["placement"] >= 3600
    assert patience("inventory.update=true")["driver"] >= 3600
    assert max(found for phase, found in patience().items() if phase != "placement") < 3600
