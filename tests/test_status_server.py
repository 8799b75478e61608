"""The server inside a task group: ended with its block.  uvicorn is asyncio's alone."""

import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from structlog.testing import capture_logs

from bringup.daemon.status.endpoint.source import StatusSource
from bringup.daemon.status.listener.app import make_app
from bringup.daemon.status.listener.server import running_server
from support.servers import PLAIN
from support.status import ManualRun

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]


@asynccontextmanager
async def serving(make: Callable[[], Any]) -> AsyncIterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with anyio.fail_after(60):
        async with running_server(listener, make):
            yield address


async def get(address: str, path: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=address, verify=PLAIN, trust_env=False, timeout=30) as client:
        return await client.get(path)


async def test_the_application_is_built_once() -> None:
    made: list[bool] = []
    source = ManualRun().source

    def make() -> Any:
        made.append(True)
        return make_app(source)

    async with serving(make) as address:
        answers = [(await get(address, "/livez")).text for _ in range(2)]

    assert (made, answers) == ([True], ["ok\n", "ok\n"])


async def test_signal_handlers_stay_those_of_the_daemon() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    source = ManualRun().source
    async with serving(lambda: make_app(source)) as address:
        await get(address, "/livez")
        during = {number: signal.getsignal(number) for number in before}

    assert during == before


async def test_an_event_listener_receives_the_end_and_does_not_delay_it() -> None:
    manual = ManualRun()
    heard: list[str] = []
    listens = anyio.Event()

    async def listen(address: str) -> None:
        async with (
            httpx.AsyncClient(trust_env=False, timeout=30) as client,
            client.stream("GET", f"{address}/events") as answer,
        ):
            async for line in answer.aiter_lines():
                heard.append(line)
                listens.set()

    async with anyio.create_task_group() as group, serving(lambda: make_app(manual.source)) as address:
        group.start_soon(listen, address)
        await listens.wait()
        manual.recorder.feed.close()

    assert "event: end" in heard


async def test_an_exception_of_the_block_is_raised_unchanged() -> None:
    source = ManualRun().source

    async def fail() -> None:
        async with serving(lambda: make_app(source)) as address:
            await get(address, "/livez")
            raise LookupError("inside")

    with pytest.raises(LookupError, match=r"^inside$"):
        await fail()


async def test_cancelling_the_block_ends_the_server() -> None:
    source = ManualRun().source
    with anyio.CancelScope() as scope:
        async with serving(lambda: make_app(source)) as address:
            await get(address, "/livez")
            scope.cancel()
            await anyio.sleep_forever()

    with pytest.raises(httpx.ConnectError):
        await get(address, "/livez")


async def test_an_application_that_cannot_be_built_is_logged_and_ends_nothing() -> None:
    def make() -> Any:
        raise LookupError("broken")

    with capture_logs() as logs:
        async with serving(make) as address:
            with pytest.raises(httpx.HTTPError):
                async with httpx.AsyncClient(trust_env=False, timeout=0.5) as client:
                    await client.get(f"{address}/livez")
            with anyio.fail_after(60):
                while not logs:
                    await anyio.wait_all_tasks_blocked()

    assert [line["event"] for line in logs] == ["status.server_failed"]


async def test_a_failing_answer_is_logged_and_is_500_for_the_client(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def broken(_scope: Any, _receive: Any, _send: Any) -> None:
        raise LookupError("broken")

    with capture_logs() as logs:
        async with serving(lambda: broken) as address:
            answer = await get(address, "/livez")

    assert answer.status_code == 500
    assert "status.request_failed" in [line["event"] for line in logs]
    assert capfd.readouterr() == ("", "")


async def test_malformed_http_is_refused_and_reaches_no_stream_of_ours(capfd: pytest.CaptureFixture[str]) -> None:
    source = ManualRun().source
    with capture_logs() as logs:
        answer = await _nonsense(source)

    assert answer.startswith(b"HTTP/1.1 400")
    assert [line["event"] for line in logs] == ["status.server"]
    assert capfd.readouterr() == ("", "")
    assert not logging.getLogger("uvicorn.error").propagate


async def _nonsense(source: StatusSource) -> bytes:
    async with (
        serving(lambda: make_app(source)) as address,
        await anyio.connect_tcp("127.0.0.1", int(address.rpartition(":")[2])) as client,
    ):
        await client.send(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        return await client.receive()
