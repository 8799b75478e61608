"""Requests to the status endpoint, as bytes over a real connection."""

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, Final

import anyio
import pytest
from hypothesis import given
from structlog.testing import capture_logs

from bringup.daemon.errors import UsageError
from bringup.daemon.status.endpoint.source import RequestHandler
from bringup.daemon.status.listener.app import make_app
from bringup.daemon.status.listener.server import running_server
from support.drivers import uuid_of
from support.fuzzing import CHANCES, Border, fuzz
from support.mutating import TEXTS, mangled, mutated, written
from support.status import ManualRun

BORDER = "HTTP requests"
PATIENCE_S: Final = 60.0
PATHS: Final = ("/", "/livez", "/readyz", "/status", "/metrics", "/events", "/timeline", "/release", "/retry", "/x")
NAMES: Final = ("Host", "Origin", "Last-Event-ID", "Content-Length", "Transfer-Encoding", "Expect", "X-A")
QUERIES: Final = ("", "", "?after=", "?after=1-", "?run=", "?", "?after=1-2&after=3")


async def refuses_what_is_none(uuids: Sequence[str]) -> list[str]:
    if any(len(uuid) != len(uuid_of(1)) for uuid in uuids):
        raise UsageError(f"cannot take {uuids}: not all of them are UUIDs")
    return list(uuids)


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    """Serve a host that is back, for as long as the module runs."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0)
    where = listener.getsockname()
    manual = ManualRun()
    manual.begin(1)
    manual.instance(1)
    manual.end()
    begun, ending = threading.Event(), threading.Event()

    async def serve() -> None:
        word: RequestHandler = refuses_what_is_none
        async with running_server(listener, lambda: make_app(manual.source, {"release": word})):
            begun.set()
            await anyio.to_thread.run_sync(ending.wait)

    thread = threading.Thread(target=lambda: anyio.run(serve))
    thread.start()
    assert begun.wait(PATIENCE_S)
    yield where
    ending.set()
    thread.join(PATIENCE_S)


def request(chance: Random) -> bytes:
    """Return a request that is one, and then is not quite."""
    method = chance.choice(("GET", "GET", "HEAD", "POST", "POST", "OPTIONS", "TRACE", chance.choice(TEXTS)[:100]))
    path = chance.choice(PATHS) + chance.choice(QUERIES)
    if chance.randrange(3) == 0:
        path += chance.choice(TEXTS)[:8000]
    body = written(chance, mutated(chance, {"uuids": [uuid_of(1)]})) if method == "POST" else b""
    headers: list[tuple[str, Any]] = [("Host", "localhost"), ("Content-Length", len(body)), ("Connection", "close")]
    if method == "POST":
        headers.append(("Content-Type", "application/json"))
    for _ in range(chance.randrange(3)):
        name = chance.choice(
            ("Host", "Origin", "Last-Event-ID", "Content-Length", "Transfer-Encoding", "Expect", "X-A")
        )
        headers.insert(chance.randrange(len(headers) + 1), (name, chance.choice((*TEXTS, "chunked", "100-continue"))))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    data = "\r\n".join(lines).encode(errors="surrogatepass") + body
    return mangled(chance, data) if chance.randrange(3) == 0 else data


def answer_to(address: tuple[str, int], data: bytes) -> bytes:
    """Send bytes and no more; return what comes back, of a stream its beginning."""
    with socket.create_connection(address, PATIENCE_S) as connection:
        found = b""
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                found += part
                if b"text/event-stream" in found:
                    break
        except OSError:
            # It answered before it had read all, and is right to.
            pass
        return found


def must_be_an_answer(border: Border, found: bytes) -> None:
    """Count and check an answer; nothing at all is what a request that never ended gets."""
    with border.one():
        status = int(found.split(b" ", 2)[1]) if found else 400
        assert status in {100, 200, 204, 304, 307, 400, 403, 404, 405, 408, 409, 411, 413, 414, 415, 421, 431, 501, 503}
        assert b"Traceback" not in found
        if b"application/json" in found and b"\r\n\r\n" in found and status in (400, 409):
            said = json.loads(found.partition(b"\r\n\r\n")[2] or b"{}").get("error", "")
            assert len(said) < 5000
            assert said.isprintable()


@fuzz(250)
@given(chance=CHANCES)
def test_a_request_has_an_answer_that_is_no_500(border: Border, address: tuple[str, int], chance: Random) -> None:
    with capture_logs() as logs:
        must_be_an_answer(border, answer_to(address, request(chance)))
    assert not [line for line in logs if line["log_level"] in ("error", "critical")]


def test_after_all_of_it_the_endpoint_still_answers(border: Border, address: tuple[str, int]) -> None:
    chance = Random(1)  # noqa: S311 - the same each time
    for _ in range(20):
        must_be_an_answer(border, answer_to(address, request(chance)))
    found = answer_to(address, b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 200")
    assert found.endswith(b"ok\n")
