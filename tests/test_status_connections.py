"""Clients that do no good, on real sockets: others are answered, and nothing is left of them."""

import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import httpx
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from bringup.daemon.status.listener.app import make_app
from bringup.daemon.status.listener.connection_slots import AT_MOST_S, CONNECTIONS, Doing, Places
from bringup.daemon.status.listener.server import running_server
from support.servers import PLAIN
from support.status import ManualRun

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

AT_ONCE_S = dict.fromkeys(AT_MOST_S, 0.0)
"""Limits of a listener that has no patience: whoever has not got on when it looks is closed."""
GET = b"GET /livez HTTP/1.1\r\nhost: x\r\n"


@dataclass
class Served:
    listener: socket.socket
    places: Places

    def connected(self) -> socket.socket:
        """Connect, and wait with what is not read at once."""
        client = socket.socket(self.listener.family, socket.SOCK_STREAM)
        client.settimeout(30)
        client.connect(self.listener.getsockname())
        return client

    async def get(self, path: str) -> httpx.Response:
        """Send a request as a client that does no harm."""
        base = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=base, verify=PLAIN, trust_env=False, timeout=30) as client:
            return await client.get(path)


@asynccontextmanager
async def serving(make: Callable[[], Any] | None = None, places: Places | None = None) -> AsyncIterator[Served]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.settimeout(0)
    places = Places() if places is None else places
    source = ManualRun().source
    with anyio.fail_after(60):
        async with running_server(listener, make or (lambda: make_app(source)), places=places):
            yield Served(listener, places)


async def closed_by_peer(client: socket.socket) -> bytes:
    """Read until the other side has closed; return what it said."""
    said = b""
    client.settimeout(0)
    while True:
        await anyio.wait_readable(client)
        try:
            piece = client.recv(65536)
        except ConnectionError:
            return said
        if not piece:
            return said
        said += piece


async def test_clients_are_answered_beside_any_number_of_silent_connections() -> None:
    with ExitStack() as silent:
        async with serving() as here:
            for _ in range(3):
                for _ in range(100):
                    silent.enter_context(await anyio.to_thread.run_sync(here.connected))
                assert (await here.get("/livez")).text == "ok\n"
            taken = len(here.places)

    assert taken <= CONNECTIONS


@pytest.mark.parametrize(
    "sent",
    [b"", b"G", GET, GET + b"x: y\r\n", b"\r\n" * 9, GET + b"\r\n", GET + b"content-length: 9\r\n\r\n12"],
    ids=["nothing", "a letter", "half a head", "a header", "empty lines", "and no more", "half a body"],
)
async def test_a_connection_without_progress_is_closed(sent: bytes) -> None:
    async with serving(places=Places(at_most_s=AT_ONCE_S, look_every_s=0.01)) as here:
        with here.connected() as client:
            client.sendall(sent)
            await closed_by_peer(client)
        assert len(here.places) == 0


async def test_a_head_sent_byte_by_byte_gets_no_more_time() -> None:
    async with serving(places=Places(at_most_s={Doing.HEAD: 0.05}, look_every_s=0.01)) as here:
        with here.connected() as client, pytest.raises(ConnectionError):
            await _dribble(client)
        assert len(here.places) == 0


async def _dribble(client: socket.socket) -> None:
    while True:
        await anyio.to_thread.run_sync(client.sendall, b"a")


async def test_an_answer_that_is_not_read_is_cut_off_and_frees_its_slot() -> None:
    body = bytes(64 << 20)

    async def large(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    places = Places(at_most_s={Doing.ANSWERING: 0.1}, look_every_s=0.01)
    with capture_logs() as logs:
        async with serving(lambda: large, places) as here:
            with here.connected() as client:
                client.sendall(b"GET /timeline HTTP/1.1\r\nhost: x\r\n\r\n")
                while not places.closed:
                    await places.changed()
                said = await closed_by_peer(client)

    assert said.startswith(b"HTTP/1.1 200")
    # What the kernel keeps has an end too: the rest was never taken from us.
    assert len(said) < 8 << 20
    assert serious(logs) == []


ODD = {
    "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "no line end": b"A" * 70_000,
    "a huge head": GET + b"x: " + b"y" * 70_000 + b"\r\n\r\n",
    "many headers": GET + b"".join(b"x-%d: y\r\n" % n for n in range(20_000)) + b"\r\n",
    "a nul in a header": GET + b"x: a\x00b\r\n\r\n",
    "line feeds alone": b"GET /livez HTTP/1.1\nhost: x\n x\n\n\n",
    "a folded header": GET + b"x: a\r\n b\r\n\r\n",
    "two lengths": GET + b"content-length: 1\r\ncontent-length: 2\r\n\r\nxx",
    "a length and chunks": GET + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /status",
    "a negative length": GET + b"content-length: -1\r\n\r\n",
    "a length that is no number": GET + b"content-length: 0x10\r\n\r\n",
    "an odd coding": GET + b"transfer-encoding: gzip, chunked\r\n\r\n",
    "chunks": GET + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "a broken chunk": GET + b"transfer-encoding: chunked\r\n\r\nZZ\r\nabc",
    "a chunk without an end": GET + b"transfer-encoding: chunked\r\n\r\nffffffffffffffffffff\r\nabc",
    "no version": b"GET /livez\r\n\r\n",
    "version 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version 1.0": b"GET /livez HTTP/1.0\r\n\r\n",
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"host: y\r\n\r\n",
    "an upgrade": GET + b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\n\r\n",
    "an upgrade to version 2": GET + b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: \r\n\r\n",
    "a whole address": b"GET http://127.0.0.1/livez HTTP/1.1\r\nhost: x\r\n\r\n",
    "a tunnel": b"CONNECT evil:25 HTTP/1.1\r\nhost: x\r\n\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
    "an odd path": b"GET /%ff%fe/..//%00?%ff=%00&;=% HTTP/1.1\r\nhost: x\r\n\r\n",
    "an odd query": b"GET /events?after=%ff%00-9999999999999999999999 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    "garbage after an event stream began": b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n\x00\x01 no HTTP\r\n\r\n",
    "garbage after a request": GET + b"\r\n\x00\x01 no HTTP\r\n\r\n",
    "garbage in a body": b"POST /release HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\nZZ\r\n",
    "one hundred at once": (GET + b"\r\n") * 100,
    "an expectation": GET + b"expect: 100-continue\r\ncontent-length: 5\r\n\r\n",
    "an odd expectation": GET + b"expect: 200-ok\r\n\r\n",
}


@pytest.mark.parametrize("sent", ODD.values(), ids=ODD)
async def test_odd_http_is_refused_or_answered_without_an_error_of_ours(
    sent: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    async def take(uuids: Any) -> list[str]:
        raise AssertionError(uuids)

    with capture_logs() as logs:
        source = ManualRun().source
        async with serving(make=lambda: make_app(source, {"release": take})) as here:
            with here.connected() as client:
                await anyio.to_thread.run_sync(_sent, client, sent)
                said = await closed_by_peer(client)
            again = await here.get("/livez")

    assert again.text == "ok\n"
    assert said[:9] in (b"", b"HTTP/1.1 ")
    assert b"HTTP/1.1 5" not in said
    assert serious(logs) == []
    assert capfd.readouterr() == ("", "")


def _sent(client: socket.socket, data: bytes) -> None:
    try:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
    except ConnectionError:
        pass  # refused before all of it was there


@pytest.mark.parametrize("name", ["a huge head", "many headers"])
async def test_the_limit_of_a_head_holds_whether_it_arrives_whole_or_in_parts(name: str) -> None:
    async with serving() as here:
        with here.connected() as client:
            await anyio.to_thread.run_sync(_sent, client, ODD[name])
            assert not (await closed_by_peer(client)).startswith(b"HTTP/1.1 200")


async def test_a_connection_closed_at_once_leaves_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with capture_logs() as logs:
        async with serving() as here:
            for sent in (b"", GET, GET + b"\r\n", b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n"):
                for _ in range(20):
                    with here.connected() as client:
                        client.sendall(sent)
                        # Reset, not closed.
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            while len(here.places):
                await here.places.changed()
            assert (await here.get("/livez")).text == "ok\n"

    assert serious(logs) == []
    assert capfd.readouterr() == ("", "")


def serious(logs: list[EventDict]) -> list[EventDict]:
    return [line for line in logs if line["log_level"] not in ("debug", "info")]
