"""A stream over a UNIX socket: a wait that is cancelled in the step in which it would have ended leaves no error."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from bringup.drivers.unix_stream import BUSY_S, UnixStream

pytestmark = pytest.mark.anyio

MUCH = bytes(4 << 20)
"""More than a socket holds."""


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("waits", ["to receive", "to send"])
async def test_a_wait_is_cancelled_in_the_step_in_which_the_other_side_ends(
    pair: tuple[socket.socket, socket.socket], waits: str
) -> None:
    ours, theirs = pair

    async def wait(stream: UnixStream) -> None:
        # On trio the order of the tasks is random.
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            await (stream.receive() if waits == "to receive" else stream.send(MUCH))

    async with UnixStream(ours) as stream, anyio.create_task_group() as group:
        group.start_soon(wait, stream)
        await anyio.wait_all_tasks_blocked()
        theirs.close()
        # With the next step the loop knows that, and this task runs before those that it wakes.
        await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()

    # What the loop logs by itself fails this test.
    await anyio.wait_all_tasks_blocked()


async def test_all_bytes_arrive_in_their_order_and_then_the_end(pair: tuple[socket.socket, socket.socket]) -> None:
    sent = bytes(range(256)) * (1 << 14)
    received = bytearray()

    async def send_all(stream: UnixStream) -> None:
        async with stream:
            await stream.send(sent)
            await stream.send_eof()

    with anyio.fail_after(60):
        async with UnixStream(pair[0]) as stream, anyio.create_task_group() as group:
            group.start_soon(send_all, UnixStream(pair[1]))
            while len(received) < len(sent):
                received += await stream.receive(1000)
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()

    assert received == sent


async def test_what_is_sent_to_one_that_has_ended_is_broken(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[1].close()

    async with UnixStream(pair[0]) as stream:
        with pytest.raises(anyio.BrokenResourceError):
            await stream.send(b"x")


async def test_what_comes_from_one_that_ended_without_reading_is_broken(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    async with UnixStream(pair[0]) as stream:
        await stream.send(b"x")
        pair[1].close()
        with pytest.raises(anyio.BrokenResourceError):
            await stream.receive()


async def connect_and_close(path: str) -> None:
    await (await UnixStream.connect(path)).aclose()


async def test_a_connection_waits_for_room_and_is_refused_where_none_listens(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        with pytest.raises(ConnectionRefusedError):
            await UnixStream.connect(path)
        listener.listen(0)
        async with await UnixStream.connect(path), anyio.create_task_group() as group:
            with anyio.move_on_after(2 * BUSY_S) as scope:
                await UnixStream.connect(path)
            group.start_soon(connect_and_close, path)
            await anyio.wait_all_tasks_blocked()
            listener.accept()[0].close()

    assert scope.cancelled_caught
