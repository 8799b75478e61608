"""What the daemon does with a process that answers and does not do as it should: real processes that say odd things."""

import os
import socket
import sys
from collections.abc import Sequence
from typing import Any, cast

import anyio
import httpx
import pytest
from anyio.lowlevel import checkpoint
from structlog.testing import capture_logs

from bringup.daemon.log_rate_limit import MOST
from bringup.daemon.status.endpoint import channel as channels_of
from bringup.daemon.status.endpoint.channel import Channel, Channels
from bringup.daemon.status.endpoint.listeners import (
    AGAIN_AT_MOST_S,
    AGAIN_S,
    HEALTHY_S,
    OTHER_VERSION,
    SHOWN,
    Listener,
    again_after_s,
    supervised,
)
from bringup.daemon.status.endpoint.mirror import lines_of
from bringup.daemon.status.endpoint.unconfined import MEANS
from support.hosts import HOST
from support.process import children_of
from support.status import ManualRun

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

SEND = """
import socket, sys
pipe = socket.socket(fileno=int(sys.argv[-1]))
try:
    pipe.sendall(eval(sys.argv[1]))
    while pipe.recv(65536):
        pass
except ConnectionError:
    pass
"""


async def unexpected(uuids: Sequence[str]) -> list[str]:
    raise AssertionError(uuids)


def client_of(listener: socket.socket) -> socket.socket:
    return socket.create_connection(listener.getsockname())


async def log_lines_of(
    command: Sequence[str], *, has_requests: bool = False, until: str = "status.listener_ended"
) -> list[Any]:
    """Return what is logged of a process, up to an event."""
    listener = socket.create_server(("127.0.0.1", 0))
    requests = {"release": unexpected} if has_requests else {}
    with capture_logs() as logs, anyio.fail_after(60), client_of(listener):
        listening = Listener(name="x", socket=listener, host_names=(), requests=requests)
        async with supervised(listening, Channels(ManualRun().source), command=command):
            while not any(line["event"] == until or not until for line in logs):
                await anyio.wait_all_tasks_blocked()
    # On a busy machine it has been started anew, and given up again, by now.
    ends = [place for place, line in enumerate(logs) if line["event"] == until or not until]
    return logs[: ends[0] + 1]


async def first_log_line_of(command: Sequence[str], *, has_requests: bool = False) -> Any:
    """Return the first line logged of a process: that it was ended, or what it logs itself."""
    return (await log_lines_of(command, has_requests=has_requests, until=""))[0]


def sending(expression: str) -> list[str]:
    return [sys.executable, "-c", SEND, expression]


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("b'hello\\n'", "it sends what it may not: JSONDecodeError"),
        ("b'\\xff\\n'", "it sends what it may not: UnicodeDecodeError"),
        ("b'[' * 100000 + b'\\n'", "it sends what it may not: RecursionError"),
        ("b'x' * (5 << 20)", "it sends what it may not: ValueError"),
        ("b'[]\\n'", "it sends what it may not"),
        ('b\'{"ask": true, "x": 1}\\n\' * 2 + b\'{"ask": "1"}\\n\'', "it sends what it may not"),
        ('b\'{"request": "release", "number": 1, "uuids": []}\\n\'', "it sends a request that it may not"),
        ("b'{\"ask\": 1}\\n' * 5000", "it sends more than it may"),
        ('b\'{"log": {"event": "service.ready"}}\\n\'', "it sends what it may not"),
        ("b'{\"up\": true}\\n'", "it sends what it may not"),
        ('b\'{"up": "0.0.9"}\\n\'', OTHER_VERSION),
    ],
)
async def test_a_process_that_sends_an_invalid_line_is_ended_with_the_reason(expression: str, reason: str) -> None:
    line = await first_log_line_of(sending(expression))

    assert (line["event"], line["log_level"], line["reason"]) == ("status.listener_ended", "warning", reason)


@pytest.mark.parametrize("uuids", ['["\\u001b[2J"]', "[1]", "[[]]", "[null]"])
async def test_a_request_for_an_invalid_instance_is_refused(uuids: str) -> None:
    request = f'{{"request": "release", "number": 1, "uuids": {uuids}}}\n'

    line = await first_log_line_of(sending(repr(request.encode())), has_requests=True)

    assert line["reason"] == "it sends a request that it may not"


async def test_lines_of_the_process_are_logged_in_our_format_and_bounded() -> None:
    fields = ", ".join(f'"k{number}": "v"' for number in range(100))
    said = f'{{"log": {{"event": "status.server", "level": "fatal", "message": "{"x" * 10_000}", {fields}}}}}\n'

    line = await first_log_line_of(sending(repr(said.encode())))

    assert (line["event"], line["log_level"], line["message"]) == ("status.server", "debug", "x" * SHOWN)
    assert len(line) < 12


async def test_a_process_that_cannot_be_started_is_logged() -> None:
    line = await first_log_line_of(["/nowhere/python"])

    assert line["reason"] == "it cannot be started: No such file or directory"


async def test_a_process_that_exits_is_logged_with_its_code() -> None:
    line = await first_log_line_of([sys.executable, "-c", "raise SystemExit(3)"])

    assert line["reason"] == "it ended with 3"


async def test_a_process_that_does_not_keep_up_is_detected_by_its_unread_lines() -> None:
    channel = Channel(["beginning\n"])
    for _ in range(channels_of.MOST_LINES):
        channel.add("x\n")
    in_time = channel.is_full
    channel.add("x\n")

    assert (in_time, channel.is_full) == (False, True)
    assert len(channel.drain()) == 1


async def test_restarts_wait_twice_as_long_each_up_to_a_bound_and_not_after_a_long_life() -> None:
    waits = [0.0]
    for _ in range(12):
        waits.append(again_after_s(waits[-1], lived_s=1))
    assert waits[1:4] == [AGAIN_S, 2 * AGAIN_S, 4 * AGAIN_S]
    assert waits[-1] == AGAIN_AT_MOST_S
    assert again_after_s(AGAIN_AT_MOST_S, lived_s=HEALTHY_S + 1) == AGAIN_S


ATTACKS = [
    ("b'[' * 60000 + b'\\n'", "it sends what it may not: RecursionError"),
    ("b'{\"log\": ' + b'{\"a\": ' * 900 + b'1' + b'}' * 901 + b'\\n'", "it sends what it may not"),
    ("b'{\"ask\": ' + b'9' * 60000 + b'}\\n'", "it sends what it may not: ValueError"),
    ("b'x' * (1 << 17)", "it sends what it may not: ValueError"),
    ("b'\\n' * 65536", "it sends what it may not: JSONDecodeError"),
    ('b\'{"request": "release", "number": 1, "uuids": []}\\n\'', "it sends a request that it may not"),
    ('b\'{"request": "accept", "number": 1, "uuids": []}\\n\'', "it sends a request that it may not"),
    ('b\'{"lacks": {"\\\\u001b[2J": "x"}}\\n\'', "it sends what it may not"),
    ("b'{\"lacks\": []}\\n'", "it sends what it may not"),
    ('b\'{"log": {"event": "instance.initialized", "instance": "x"}}\\n\'', "it sends what it may not"),
    ('b\'{"log": {"event": ["status.server"]}}\\n\'', "it sends what it may not"),
    ("b'null\\n'", "it sends what it may not"),
    ("b'{\"ask\": NaN}\\n'", "it sends what it may not"),
]


@pytest.mark.parametrize(("expression", "reason"), ATTACKS)
async def test_a_hostile_process_is_ended_at_its_first_invalid_line(expression: str, reason: str) -> None:
    logs = await log_lines_of(sending(expression))

    assert {(line["event"], line["reason"]) for line in logs} == {("status.listener_ended", reason)}


async def test_a_flood_of_log_lines_is_logged_in_part_with_fixed_levels_and_keys() -> None:
    said = (
        '{"log": {"event": "status.server", "level": "error", "message": "\\u001b[2J\\ud800\\nready", "instance": "x", '
        '"timestamp": "x", "exc_info": true, "self": 1, "count": ' + "9" * 40 + "}}\n"
    )

    logs = await log_lines_of(sending(f"{said.encode()!r} * 150 + b'[]\\n'"), until="status.listener_ended")

    assert len(logs) == MOST + 1
    assert logs[0] == {
        "event": "status.server",
        "log_level": "debug",
        "message": "\\x1b[2J\\ud800\nready",
        "count": "9" * 40,
    }


async def test_missing_confinement_is_logged_once_and_the_process_continues() -> None:
    lacks = '{"lacks": {"landlock": "\\u001b[2J' + "x" * 500 + '"}}\n'

    logs = await log_lines_of(sending(f"{lacks.encode()!r} * 3 + b'[]\\n'"), until="status.listener_ended")

    [first, last] = logs
    assert (first["event"], first["log_level"], first["lacks"]) == ("status.not_confined", "warning", ["landlock"])
    assert first["reason"].startswith("landlock: \\x1b[2Jxxx")
    assert len(first["reason"]) < 120
    assert first["means"] == MEANS["landlock"]
    assert last["event"] == "status.listener_ended"


async def test_bytes_without_a_line_end_are_read_rarely_and_bounded() -> None:
    class Dripping:
        """A stream of single bytes."""

        received = 0

        async def receive(self, _most: int) -> bytes:
            self.received += 1
            return b"x"

    stream = Dripping()
    with pytest.raises(ValueError, match="a line is too long"):
        await anext(lines_of(cast("Any", stream), 64, 1 << 20))

    assert stream.received == 65


async def test_no_process_is_started_before_a_client_comes_or_once_all_end() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    channels = Channels(ManualRun().source)
    before = children_of(os.getpid())
    with capture_logs() as logs, anyio.fail_after(60):
        async with supervised(Listener(name="x", socket=listener, host_names=()), channels, command=sending("b'[]'")):
            await anyio.wait_all_tasks_blocked()
            without_a_client = children_of(os.getpid())
            channels.close()
            with client_of(listener):
                await checkpoint()  # the client is noticed
                await anyio.wait_all_tasks_blocked()
                at_the_end = children_of(os.getpid())

    assert (without_a_client, at_the_end, logs) == (before, before, [])
    assert listener.fileno() == -1


async def test_a_client_that_leaves_at_once_hurts_nobody_and_the_next_is_answered() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with capture_logs() as logs, anyio.fail_after(60):
        async with (
            supervised(Listener(name="x", socket=listener, host_names=()), Channels(ManualRun().source)),
            httpx.AsyncClient(base_url=address, trust_env=False, timeout=60) as client,
        ):
            client_of(listener).close()
            answer = await client.get("/status")

    assert (answer.status_code, answer.json()["host"], logs) == (200, HOST, [])


async def test_the_next_process_is_started_for_the_next_client() -> None:
    takes = "import socket, sys; socket.socket(fileno=int(sys.argv[-2])).accept(); sys.exit(3)"
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0)  # without a client it would exit with 1
    with capture_logs() as logs, anyio.fail_after(60):
        listening = Listener(name="x", socket=listener, host_names=())
        async with supervised(listening, Channels(ManualRun().source), command=[sys.executable, "-c", takes]):
            for count in (1, 2, 3):
                with client_of(listener):
                    while len(logs) < count:
                        await anyio.wait_all_tasks_blocked()

    assert [line["reason"] for line in logs] == ["it ended with 3"] * 3


async def test_a_listener_shut_down_by_a_process_answers_with_the_next() -> None:
    shuts = (
        "import socket, sys; listener = socket.socket(fileno=int(sys.argv[-2])); "
        "code = 3 + listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN); "
        "listener.shutdown(socket.SHUT_RDWR); sys.exit(code)"
    )
    listener = socket.create_server(("127.0.0.1", 0))
    with capture_logs() as logs, anyio.fail_after(60), client_of(listener):
        listening = Listener(name="x", socket=listener, host_names=())
        async with supervised(listening, Channels(ManualRun().source), command=[sys.executable, "-c", shuts]):
            while len(logs) < 2:
                await anyio.wait_all_tasks_blocked()

    assert {line["reason"] for line in logs} == {"it ended with 4"}
