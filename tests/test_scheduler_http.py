import contextlib
import gzip
import traceback
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from bringup.daemon.openstack.scheduler_http import BODY_LIMIT, HttpTransport
from bringup.daemon.storage.outbox.base import NotAcknowledged, Rejected
from bringup.placement.retry_after import parse_retry_after
from support.placement import a_peer, an_answer
from support.polling import PATIENCE_S
from support.ports import free_port
from support.scheduler import a_report, an_outcome, receiver
from support.servers import PLAIN

pytestmark = pytest.mark.anyio

SECRET = "s3cr3t-token"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(verify=PLAIN, trust_env=False, timeout=PATIENCE_S) as client:
        yield client


async def test_a_report_arrives_whole_and_is_acknowledged(client: httpx.AsyncClient, tmp_path: Path) -> None:
    with receiver(tmp_path) as scheduler:
        await HttpTransport(client, f"{scheduler.url}/reports").send(a_report(an_outcome()))
        assert scheduler.reports == [a_report(an_outcome())]


async def test_a_repeat_is_acknowledged_and_kept_once(client: httpx.AsyncClient, tmp_path: Path) -> None:
    with receiver(tmp_path) as scheduler:
        transport = HttpTransport(client, f"{scheduler.url}/reports")
        await transport.send(a_report())
        await transport.send(a_report())
        assert scheduler.reports == [a_report()]


async def test_the_token_is_sent(client: httpx.AsyncClient, tmp_path: Path) -> None:
    with receiver(tmp_path, token=SECRET) as scheduler:
        await HttpTransport(client, f"{scheduler.url}/reports", token=f"{SECRET}\n").send(a_report())
        assert scheduler.reports == [a_report()]


async def test_a_wrong_token_is_shown_nowhere(client: httpx.AsyncClient, tmp_path: Path) -> None:
    with receiver(tmp_path, token="another") as scheduler:
        transport = HttpTransport(client, f"{scheduler.url}/reports", token=SECRET)
        with pytest.raises(NotAcknowledged, match="answered 401") as caught:
            await transport.send(a_report())
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert SECRET not in repr(transport) + shown


async def test_a_receiver_that_echoes_the_token_does_not_get_it_into_the_error() -> None:
    def echo(request: httpx.Request) -> httpx.Response:
        return httpx.Response(400, text=f"bad header: {request.headers['authorization']}")

    async with httpx.AsyncClient(transport=httpx.MockTransport(echo)) as client:
        with pytest.raises(Rejected) as caught:
            await HttpTransport(client, "http://scheduler/reports", token=SECRET).send(a_report())
    assert SECRET not in str(caught.value)
    assert "Bearer ***" in str(caught.value)


async def test_a_receiver_that_echoes_the_token_in_its_status_line_does_not_get_it_into_the_error() -> None:
    def echo(request: httpx.Request) -> httpx.Response:
        return httpx.Response(400, extensions={"reason_phrase": request.headers["authorization"].encode()})

    async with httpx.AsyncClient(transport=httpx.MockTransport(echo)) as client:
        with pytest.raises(Rejected, match=r"400 Bearer \*\*\*") as caught:
            await HttpTransport(client, "http://scheduler/reports", token=SECRET).send(a_report())
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("status", [400, 406, 409, 410, 413, 415, 422, 451])
async def test_an_answer_that_speaks_of_the_report_rejects_it(
    client: httpx.AsyncClient, tmp_path: Path, status: int
) -> None:
    with (
        receiver(tmp_path, status=status) as scheduler,
        pytest.raises(Rejected, match=f"{a_report()['report_id']} to {scheduler.url}/reports: answered {status}"),
    ):
        await HttpTransport(client, f"{scheduler.url}/reports").send(a_report())


@pytest.mark.parametrize(
    "status", [301, 304, 401, 403, 404, 405, 407, 408, 421, 423, 425, 429, 500, 501, 502, 503, 504]
)
async def test_an_answer_that_speaks_of_the_way_or_the_moment_is_to_be_tried_again(
    client: httpx.AsyncClient, tmp_path: Path, status: int
) -> None:
    with (
        receiver(tmp_path, status=status) as scheduler,
        pytest.raises(NotAcknowledged, match=f"answered {status}") as caught,
    ):
        await HttpTransport(client, f"{scheduler.url}/reports").send(a_report())
    assert caught.value.retry_after_s is None


async def test_what_the_receiver_asks_to_wait_is_reported(client: httpx.AsyncClient, tmp_path: Path) -> None:
    with receiver(tmp_path, fail_first=1, retry_after="120") as scheduler, pytest.raises(NotAcknowledged) as caught:
        await HttpTransport(client, f"{scheduler.url}/reports").send(a_report())
    assert caught.value.retry_after_s == 120


async def test_a_receiver_that_does_not_answer_is_given_up_after_the_timeout(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    with (
        receiver(tmp_path, hang_first=1) as scheduler,
        pytest.raises(NotAcknowledged, match="cannot send report") as caught,
    ):
        await HttpTransport(client, f"{scheduler.url}/reports", timeout_s=0.05).send(a_report())
    assert isinstance(caught.value.__cause__, httpx.TimeoutException | TimeoutError)


async def test_the_timeout_is_for_the_whole_report_not_for_each_step() -> None:
    async def trickle(request: httpx.Request) -> httpx.Response:
        # No single step of httpx takes too long here, and yet there is no end.
        await anyio.sleep_forever()
        return httpx.Response(200, request=request)

    with anyio.fail_after(30):
        async with httpx.AsyncClient(transport=httpx.MockTransport(trickle)) as client:
            with pytest.raises(NotAcknowledged, match=r"no answer in 0\.01 s"):
                await HttpTransport(client, "http://scheduler/reports", timeout_s=0.01).send(a_report())


async def test_a_lost_acknowledgement_is_to_be_tried_again_and_the_repeat_is_kept_once(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    with receiver(tmp_path, drop_first=1) as scheduler:
        transport = HttpTransport(client, f"{scheduler.url}/reports")
        with pytest.raises(NotAcknowledged) as caught:
            await transport.send(a_report())
        assert isinstance(caught.value.__cause__, httpx.RemoteProtocolError)
        await transport.send(a_report())
        assert scheduler.reports == [a_report()]


async def test_a_receiver_that_is_not_there_is_to_be_tried_again(client: httpx.AsyncClient) -> None:
    url = f"http://127.0.0.1:{free_port()}/reports"
    with pytest.raises(NotAcknowledged, match=f"to {url}$") as caught:
        await HttpTransport(client, url).send(a_report())
    assert isinstance(caught.value.__cause__, httpx.ConnectError)


@pytest.mark.parametrize(
    ("url", "token", "message"),
    [
        ("reports", None, "must be http://"),
        ("ftp://scheduler/reports", None, "must be http://"),
        ("http://", None, "must be http://"),
        ("http://scheduler:s3cr3t-token/", None, "is not a URL"),
        ("http://me:s3cr3t-token@scheduler/reports", None, "credentials belong into the token"),
        ("http://scheduler/reports", "", "is empty"),
        ("http://scheduler/reports", "s3cr3t-token\nX-More: 1", "a header cannot hold"),
        ("http://scheduler/reports", "s3cr3t-tökén", "a header cannot hold"),
    ],
    ids=["no scheme", "no HTTP", "no host", "no port", "credentials", "empty token", "two lines", "no ASCII"],
)
async def test_an_address_or_token_that_cannot_be_used_is_refused_without_showing_it(
    client: httpx.AsyncClient, url: str, token: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        HttpTransport(client, url, token=token)
    assert "s3cr3t" not in "".join(traceback.format_exception_only(caught.value))
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("120", 120),
        (" 0 ", 0),
        ("Mon, 23 Nov 2026 12:01:00 GMT", 60),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0),
        ("Mon, 23 Nov 2026 12:01:00 -0000", 60),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
    ids=str,
)
def test_a_retry_after_is_seconds_or_a_date(value: str | None, seconds: Any) -> None:
    assert parse_retry_after(value, now=NOW) == seconds


BOMB = gzip.compress(b" " * 20_000_000)
"""20 kB on the way."""


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
async def test_an_answer_is_not_decompressed(client: httpx.AsyncClient, status: int, encoding: str) -> None:
    refused = pytest.raises(NotAcknowledged, match=f"encoded as {encoding}")
    expected = contextlib.nullcontext() if status == 200 else refused
    tracemalloc.start()
    try:
        with a_peer(an_answer(status, BOMB, content_encoding=encoding)) as peer, expected:
            await HttpTransport(client, peer.url).send(a_report())
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert "accept-encoding: identity" in peer.requests[0].lower()


@pytest.mark.parametrize("status", [200, 400, 503])
async def test_a_long_answer_is_not_read(client: httpx.AsyncClient, status: int) -> None:
    refused = pytest.raises((NotAcknowledged, Rejected), match="longer than")
    expected = contextlib.nullcontext() if status == 200 else refused
    with a_peer(an_answer(status, b"x" * (BODY_LIMIT + 1))) as peer, expected:
        await HttpTransport(client, peer.url).send(a_report())


# On trio httpx leaves its generators to be collected, with a warning, when reading is given up.
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_answer_without_an_end_is_not_read(client: httpx.AsyncClient) -> None:
    endless = b"HTTP/1.1 503 No\r\nConnection: close\r\n\r\n" + b"x" * (2 * BODY_LIMIT)
    with a_peer(endless) as peer, pytest.raises(NotAcknowledged, match="longer than"):
        await HttpTransport(client, peer.url).send(a_report())


async def test_an_answer_cannot_write_to_the_terminal(client: httpx.AsyncClient) -> None:
    answer = an_answer(400, b"\x1b]0;title\x07 no \x9b31m\r\nroot# ")
    with a_peer(answer) as peer, pytest.raises(Rejected) as caught:
        await HttpTransport(client, peer.url).send(a_report())
    assert str(caught.value).isprintable()
