"""What the daemon does with a process that answers and does not do as it should: real processes that say odd things."""

import socket
import sys
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from bringup.daemon.status import channel as channels_of
from bringup.daemon.status.channel import Channel, Channels
from bringup.daemon.status.keeping import AGAIN_AT_MOST_S, AGAIN_S, HEALTHY_S, SHOWN, Listener, again_after_s, kept
from support.status import Acted

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

SAYS = """
import socket, sys
pipe = socket.socket(fileno=int(sys.argv[-1]))
try:
    pipe.sendall(eval(sys.argv[1]))
    while pipe.recv(65536):
        pass
except ConnectionError:
    pass
"""


async def taken(uuids: Sequence[str]) -> list[str]:
    raise AssertionError(uuids)


async def said_of(command: Sequence[str], *, has_words: bool = False) -> Any:
    """Give what is logged first of a process: that it is given up, or what it logs itself."""
    listener = socket.create_server(("127.0.0.1", 0))
    words = {"release": taken} if has_words else {}
    with capture_logs() as logs, anyio.fail_after(60):
        keeping = Listener(name="x", socket=listener, host_names=(), words=words)
        async with kept(keeping, Channels(Acted().source), command=command):
            while not logs:
                await anyio.wait_all_tasks_blocked()
    # On a busy machine it has been started anew, and given up again, by now.
    return logs[0]


def saying(expression: str) -> list[str]:
    return [sys.executable, "-c", SAYS, expression]


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("b'hello\\n'", "it says what it may not: JSONDecodeError"),
        ("b'\\xff\\n'", "it says what it may not: UnicodeDecodeError"),
        ("b'[' * 100000 + b'\\n'", "it says what it may not: RecursionError"),
        ("b'x' * (5 << 20)", "it says what it may not: ValueError"),
        ("b'[]\\n'", "it says what it may not"),
        ('b\'{"ask": true, "x": 1}\\n\' * 2 + b\'{"ask": "1"}\\n\'', "it says what it may not"),
        ('b\'{"word": "release", "number": 1, "uuids": []}\\n\'', "it says a word that it may not"),
        ("b'{\"ask\": 1}\\n' * 5000", "it says more than it may"),
        ('b\'{"log": {"event": "service.ready"}}\\n\'', "it says what it may not"),
    ],
)
async def test_one_that_says_what_it_may_not_is_ended_and_that_is_said(expression: str, reason: str) -> None:
    line = await said_of(saying(expression))

    assert (line["event"], line["log_level"], line["reason"]) == ("status.listener_ended", "warning", reason)


@pytest.mark.parametrize("uuids", ['["\\u001b[2J"]', "[1]", "[[]]", "[null]"])
async def test_a_word_on_what_is_no_instance_is_not_taken(uuids: str) -> None:
    words = f'{{"word": "release", "number": 1, "uuids": {uuids}}}\n'

    line = await said_of(saying(repr(words.encode())), has_words=True)

    assert line["reason"] == "it says a word that it may not"


async def test_what_it_logs_is_logged_in_our_format_and_has_an_end() -> None:
    fields = ", ".join(f'"k{number}": "v"' for number in range(100))
    said = f'{{"log": {{"event": "status.server", "level": "fatal", "message": "{"x" * 10_000}", {fields}}}}}\n'

    line = await said_of(saying(repr(said.encode())))

    assert (line["event"], line["log_level"], line["message"]) == ("status.server", "debug", "x" * SHOWN)
    assert len(line) < 12


async def test_one_that_cannot_be_started_is_said() -> None:
    line = await said_of(["/nowhere/python"])

    assert line["reason"] == "it cannot be started: No such file or directory"


async def test_one_that_ends_is_said_with_its_code() -> None:
    line = await said_of([sys.executable, "-c", "raise SystemExit(3)"])

    assert line["reason"] == "it ended with 3"


async def test_one_that_does_not_keep_up_is_known_by_what_it_has_not_taken() -> None:
    channel = Channel(["beginning\n"])
    for _ in range(channels_of.MOST_LINES):
        channel.add("x\n")
    in_time = channel.is_full
    channel.add("x\n")

    assert (in_time, channel.is_full) == (False, True)
    assert len(channel.take()) == 1


async def test_each_start_waits_twice_as_long_as_the_last_up_to_an_end_and_after_a_long_life_none_does() -> None:
    waits = [0.0]
    for _ in range(12):
        waits.append(again_after_s(waits[-1], lived_s=1))
    assert waits[1:4] == [AGAIN_S, 2 * AGAIN_S, 4 * AGAIN_S]
    assert waits[-1] == AGAIN_AT_MOST_S
    assert again_after_s(AGAIN_AT_MOST_S, lived_s=HEALTHY_S + 1) == AGAIN_S
