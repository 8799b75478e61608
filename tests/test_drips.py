"""Servers that send a byte a second of an answer that never ends: each client gives up in time, with a sentence.

Each byte comes in time for the time-out of a read.  The clock is trio's own for tests: it jumps when all wait.
"""

import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.abc
import httpx
import pytest
import trio.testing

from bringup.daemon.errors import Unavailable
from bringup.daemon.openstack.scheduler_http import HttpTransport
from bringup.daemon.status.client import ANSWER_S, ask
from bringup.daemon.storage.outbox.base import NotAcknowledged
from bringup.placement.client import connect
from bringup.placement.credentials import GivenToken, Login
from bringup.placement.errors import Unreachable
from bringup.placement.keystone import LOGIN_S, KeystoneAuth
from support.scheduler import a_report

pytestmark = pytest.mark.anyio

CONNECT_S, READ_S = 5.0, 10.0
BEGINNINGS: Final = {
    "the status line": b"",
    "the headers": b"HTTP/1.1 200 OK\r\nX-A: ",
    "the body": b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\nContent-Type: application/json\r\n\r\n",
    "a refusal": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 60000\r\nContent-Type: application/json\r\n\r\n",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
}
MOST_S = 10_000.0
"""What would count as never: an answer with its length would be there after sixteen hours."""


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@asynccontextmanager
async def dripping(beginning: str, path: Path | None = None, whole: bytes = b"") -> AsyncIterator[str]:
    """Drip beside the block, on a port or a socket; the first connection may get a whole answer before."""
    drop = b"1\r\n \r\n" if beginning == "chunks" else b"1"
    answers = [whole] if whole else []

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            try:
                await stream.receive()
                if answers:
                    await stream.send(answers.pop())
                    return
                await stream.send(BEGINNINGS[beginning] or b"HTTP/1.")
                while True:
                    await anyio.sleep(1)
                    await stream.send(drop)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
                return

    listener: Any = (
        await anyio.create_tcp_listener(local_host="127.0.0.1")
        if path is None
        else await anyio.create_unix_listener(os.fspath(path))
    )
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        port = 0 if path is not None else listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - not Django's
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            group.cancel_scope.cancel()


async def seconds_until_it_says(said: str, kind: type[Exception], asks: Callable[[], Awaitable[object]]) -> float:
    began = anyio.current_time()
    with anyio.fail_after(MOST_S), pytest.raises(kind, match=said):
        await asks()
    return anyio.current_time() - began


@pytest.mark.parametrize("beginning", BEGINNINGS)
async def test_placement_that_drips_is_given_up(beginning: str) -> None:
    async with dripping(beginning) as url, connect(url, auth=None, read_timeout_s=READ_S) as client:
        for asking, patience in ((client, 1), (client.more_patient(), 2)):
            request = functools.partial(asking.request, "GET", "/")
            took_s = await seconds_until_it_says("GET / of Placement", Unreachable, request)
            assert READ_S <= took_s <= patience * (CONNECT_S + READ_S)


def an_identity(url: str) -> Login:
    return Login(auth_url=url, method=GivenToken(secret="s3cr3t"), project=None)


@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.parametrize("knocked", [False, True], ids=["at the knock", "at the login"])
async def test_keystone_that_drips_is_given_up(beginning: str, *, knocked: bool) -> None:
    whole = b"HTTP/1.1 300 Multiple Choices\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}" if knocked else b""
    async with dripping(beginning, whole=whole) as url:
        auth = KeystoneAuth(an_identity(url))
        async with connect("http://127.0.0.1:9", auth=auth, read_timeout_s=READ_S) as client:
            request = functools.partial(client.insisting().request, "GET", "/")
            took_s = await seconds_until_it_says("get a token of Keystone", Unreachable, request)
    # What answers a knock in pieces of no known length is not read on: the login follows.
    assert (auth.probes, auth.logins) == (1, int(knocked or beginning == "chunks"))
    assert READ_S <= took_s <= CONNECT_S + (LOGIN_S if auth.logins else READ_S) + 1


@pytest.mark.parametrize("beginning", BEGINNINGS)
async def test_a_scheduler_that_drips_is_given_up(beginning: str) -> None:
    async with dripping(beginning) as url, httpx.AsyncClient(trust_env=False) as http:
        transport = HttpTransport(http, f"{url}/reports", timeout_s=READ_S)
        send = functools.partial(transport.send, a_report())
        took_s = await seconds_until_it_says("no answer in 10 s", NotAcknowledged, send)
    assert took_s == pytest.approx(READ_S)


@pytest.mark.parametrize("beginning", BEGINNINGS)
async def test_who_drips_at_the_status_socket_is_given_up(beginning: str, tmp_path: Path) -> None:
    socket = tmp_path / "status.sock"
    async with dripping(beginning, socket):
        took_s = await seconds_until_it_says("does not answer", Unavailable, functools.partial(ask, socket))
    assert took_s <= ANSWER_S + 1
