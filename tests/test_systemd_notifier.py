"""The datagrams of sd_notify, over the sockets that systemd may name."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bringup.daemon.status.systemd.notifier import Notifier, from_environment

PID = 4711


@contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(address)
        end.settimeout(60)
        yield end


def test_a_socket_with_a_path_takes_a_message(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with listening(path) as end:
        assert Notifier(path).send(["READY=1", "STATUS=fünf"])

        assert end.recv(4096) == "READY=1\nSTATUS=fünf".encode()


def test_so_does_an_abstract_one(tmp_path: Path) -> None:
    name = f"bringup-{os.getpid()}-{tmp_path.name}@2"
    with listening(f"\0{name}") as end:
        assert Notifier(f"@{name}").send(["READY=1"])

        assert end.recv(4096) == b"READY=1"


@pytest.mark.parametrize("address", ["/nonexistent/notify", "@bringup-nobody-listens", "/" + "x" * 200])
def test_a_manager_that_is_not_there_is_no_error(address: str) -> None:
    assert not Notifier(address).send(["READY=1"])


def test_one_that_does_not_read_does_not_hold_the_daemon_up(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    notifier = Notifier(path)
    with listening(path):
        while notifier.send(["STATUS=" + "x" * 1000]):
            pass


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"NOTIFY_SOCKET": ""}, None),
        ({"NOTIFY_SOCKET": "vsock:2:1234"}, None),
        ({"NOTIFY_SOCKET": "/run/systemd/notify"}, Notifier("/run/systemd/notify")),
        ({"NOTIFY_SOCKET": "@notify"}, Notifier("@notify")),
        ({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": str(PID)}, Notifier("/n", 120)),
        ({"WATCHDOG_USEC": "1500000"}, Notifier("/n", 1.5)),
        ({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": "1"}, Notifier("/n")),
        ({"WATCHDOG_USEC": "0", "WATCHDOG_PID": str(PID)}, Notifier("/n")),
        ({"WATCHDOG_USEC": "soon"}, Notifier("/n")),
        ({"WATCHDOG_USEC": "-5"}, Notifier("/n")),
    ],
    ids=str,
)
def test_the_environment_names_the_manager_and_its_watchdog(
    environment: dict[str, str], expected: Notifier | None
) -> None:
    socket_too = {"NOTIFY_SOCKET": "/n"} if "WATCHDOG_USEC" in environment else {}

    assert from_environment(socket_too | environment, pid=PID) == expected
