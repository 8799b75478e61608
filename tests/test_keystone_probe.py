"""The question before a login: who is busy or away is asked for no token, and a login that was sent is waited for."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import count
from pathlib import Path

import anyio
import anyio.abc
import httpx
import pytest
from structlog.testing import capture_logs

from bringup.placement.backoff import LEAST_CEILING_AWAY_S
from bringup.placement.client import connect
from bringup.placement.credentials import Login, Named, Password
from bringup.placement.errors import GateClosed, KeystoneWait, NotUnderstood, PlacementError, Unauthorized, Unreachable
from bringup.placement.gate import Waiting, pass_gate
from bringup.placement.keystone import TOO_LONG_S, KeystoneAuth
from bringup.placement.server_timing import ServerTiming
from bringup.placement.tls import Trust, context
from bringup.placement.update_with_generation import update_with_generation
from support.certificates import Ca
from support.faulty_proxy import Proxy, a_proxy
from support.keystone import PASSWORD, Cloud, a_cloud
from support.placement import HANG, NOTHING, Peer, a_peer, an_answer, fresh_name, nobody
from support.retries import without_waits

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

PROVIDERS = "/resource_providers"
KNOCK, LOGIN = "GET /v3", "POST /v3/auth/tokens"
DOCUMENT = an_answer(200, {"version": {"id": "v3.14", "status": "stable"}})
LONG_S = 60.0


@pytest.fixture(scope="module")
def cloud() -> Cloud:
    return a_cloud()


def an_auth(url: str, *, draw: float = 0.0) -> KeystoneAuth:
    """Return one with a random number that is always the same: 0 is let in wherever somebody is."""
    method = Password(user=Named(name="admin"), secret=PASSWORD)
    return KeystoneAuth(Login(auth_url=url, method=method, project=Named(name="admin")), draw=lambda: draw)


def request_lines(server: Peer | Proxy) -> list[str]:
    return [" ".join(head.split()[:2]) for head in server.requests]


async def test_a_login_is_preceded_by_one_question_without_a_token_and_one_token_serves_on(cloud: Cloud) -> None:
    with a_proxy(cloud.auth_url.removesuffix("/v3")) as keystone:
        auth = an_auth(keystone.url)
        async with connect(cloud.placement_url, auth=auth) as client:
            for _ in range(3):
                await client.request("GET", PROVIDERS)
    assert request_lines(keystone) == [KNOCK, LOGIN]
    assert (auth.probes, auth.logins, keystone.connections) == (1, 1, 1)


async def test_a_keystone_that_takes_a_second_is_busy_and_is_not_asked_for_a_token(cloud: Cloud) -> None:
    with a_proxy(cloud.auth_url.removesuffix("/v3"), ["late"]) as keystone:
        async with connect(cloud.placement_url, auth=an_auth(keystone.url)) as client:
            with pytest.raises(Unreachable, match=r"^cannot get a token of Keystone at .*: it is busy") as caught:
                await client.request("GET", PROVIDERS)
            assert request_lines(keystone) == [KNOCK]
            await client.request("GET", PROVIDERS)
    assert caught.value.of_keystone
    assert caught.value.of_keystone.took_s == caught.value.took_s
    assert (caught.value.took_s or 0) >= TOO_LONG_S
    assert request_lines(keystone) == [KNOCK, KNOCK, LOGIN]
    # Whoever waits holds no connection.
    assert keystone.connections == 2


async def test_who_asks_once_and_does_not_wait_logs_in_all_the_same(cloud: Cloud) -> None:
    with a_proxy(cloud.auth_url.removesuffix("/v3"), ["late", "late"]) as keystone:
        async with connect(cloud.placement_url, auth=an_auth(keystone.url, draw=0.99)) as client:
            await client.insisting().request("GET", PROVIDERS)
            await pass_gate(client, provider=fresh_name(), wait_s=0, create=True)
    assert request_lines(keystone) == [KNOCK, LOGIN]


async def test_a_login_is_waited_for_longer_than_any_other_answer(cloud: Cloud) -> None:
    with a_proxy(cloud.auth_url.removesuffix("/v3"), ["", "late"]) as keystone:
        auth = an_auth(keystone.url)
        async with connect(cloud.placement_url, auth=auth, connect_timeout_s=0.4, read_timeout_s=0.5) as client:
            await auth.log_in(client._http, insists=True)
    assert request_lines(keystone) == [KNOCK, LOGIN]


NOT_NOW = {
    "503": an_answer(503, b"", retry_after="17"),
    "503 of a proxy": an_answer(503, b"<html>", retry_after=format_datetime(datetime.now(UTC) + timedelta(days=1))),
    "429": an_answer(429, b"", retry_after="17"),
    "500": an_answer(500, b""),
    "502": an_answer(502, b""),
    "504": an_answer(504, b""),
    "silent": HANG,
    "nothing": NOTHING,
    "not HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
}


@pytest.mark.parametrize("answer", NOT_NOW.values(), ids=NOT_NOW.keys())
async def test_a_keystone_in_trouble_gets_no_login_and_is_waited_for(answer: bytes) -> None:
    with a_peer(answer) as keystone:
        async with connect("http://127.0.0.1:1", auth=an_auth(keystone.url), read_timeout_s=0.3) as client:
            for each in (client, client.insisting()):
                with pytest.raises(Unreachable) as caught:
                    await each.request("GET", PROVIDERS)
                assert caught.value.of_keystone
    assert set(request_lines(keystone)) == {KNOCK}


OTHER = {
    "no version document": (404, NotUnderstood),
    "not for everybody": (401, Unauthorized),
    "forbidden": (403, Unauthorized),
    "elsewhere": (302, NotUnderstood),
    "several versions": (300, NotUnderstood),
}


@pytest.mark.parametrize(("status", "kind"), OTHER.values(), ids=OTHER.keys())
async def test_whatever_else_the_question_is_answered_the_login_tells(status: int, kind: type[PlacementError]) -> None:
    with a_peer(an_answer(status, b"")) as keystone:
        async with connect("http://127.0.0.1:1", auth=an_auth(keystone.url)) as client:
            with pytest.raises(kind):
                await client.insisting().request("GET", PROVIDERS)
    assert request_lines(keystone) == [KNOCK, LOGIN]


async def test_a_version_document_that_is_long_or_encoded_is_not_read() -> None:
    long = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n" + b" " * 1_000_000
    with a_peer(long, an_answer(401, {})) as keystone:
        async with connect("http://127.0.0.1:1", auth=an_auth(keystone.url)) as client:
            with pytest.raises(Unauthorized):
                await client.insisting().request("GET", PROVIDERS)
    assert request_lines(keystone) == [KNOCK, LOGIN]


@pytest.mark.parametrize(
    ("answers", "said", "least_s"),
    [
        ((an_answer(503, b"", retry_after="17"),), "waiting for Keystone: answered 503, next attempt in ", 17),
        ((DOCUMENT, an_answer(503, b"", retry_after="17")) * 3, "waiting for Keystone: answered 503", 17),
        ((an_answer(429, b"", retry_after="100000"),), "waiting for Keystone: answered 429", 120),
        ((an_answer(500, b""),), "waiting for Keystone: answered 500", 0),
    ],
    ids=["the question", "the login", "for ever", "no Retry-After"],
)
async def test_it_is_reported_what_is_waited_for_and_for_how_long(
    answers: tuple[bytes, ...], said: str, least_s: float
) -> None:
    waits: list[Waiting] = []
    with a_peer(*answers) as keystone:
        async with connect("http://127.0.0.1:1", auth=an_auth(keystone.url)) as client:
            with pytest.raises(GateClosed, match="check the log of Keystone"):
                await pass_gate(client, provider="x", wait_s=LONG_S, on_wait=waits.append, policy=without_waits(3))
    assert str(waits[0]).startswith(said)
    assert least_s <= waits[0].wait_s <= max(20, least_s * 1.25)
    assert str(waits[0]).endswith(f"next attempt in {waits[0].wait_s:.0f} s")


async def test_a_busy_keystone_is_distinguished_from_one_that_is_away(cloud: Cloud) -> None:
    waits: list[str] = []
    with a_proxy(cloud.auth_url.removesuffix("/v3"), ["late"]) as keystone, nobody() as away:
        for url in (keystone.url, away):
            async with connect(cloud.placement_url, auth=an_auth(url)) as client:
                with anyio.move_on_after(LONG_S) as scope:

                    def on_wait(waiting: Waiting, scope: anyio.CancelScope = scope) -> None:
                        waits.append(str(waiting))
                        scope.cancel()

                    await pass_gate(client, provider="x", wait_s=LONG_S, on_wait=on_wait, policy=without_waits(2))
    assert waits[0].startswith("waiting for Keystone: it is busy, next attempt in ")
    assert waits[1].startswith("waiting for Keystone: connection refused, next attempt in ")


async def test_it_is_noted_how_long_a_refusal_took(cloud: Cloud) -> None:
    hours = count(0, 3600)
    with nobody() as away:
        auth = KeystoneAuth(an_auth(away).identity, clock=lambda: float(next(hours)))
        async with connect(cloud.placement_url, auth=auth) as client:
            with pytest.raises(Unreachable) as caught:
                await client.request("GET", PROVIDERS)
    assert caught.value.of_keystone == KeystoneWait(failures=1, took_s=3600)


async def test_a_date_to_come_back_at_is_read_by_the_clock_of_who_says_it() -> None:
    theirs = datetime(2031, 1, 1, tzinfo=UTC)
    later = format_datetime(theirs + timedelta(seconds=23), usegmt=True)
    answer = an_answer(503, b"", retry_after=later, date=format_datetime(theirs, usegmt=True))
    with a_peer(answer) as keystone:
        async with connect(keystone.url, auth=an_auth(keystone.url)) as client:
            with pytest.raises(Unreachable) as caught:
                await client.request("GET", PROVIDERS)
    assert caught.value.retry_after_s == 23


async def test_a_login_in_the_middle_of_the_work_waits_its_turn_too(cloud: Cloud) -> None:
    with a_proxy(cloud.auth_url.removesuffix("/v3"), ["503"]) as keystone:
        async with connect(cloud.placement_url, auth=an_auth(keystone.url)) as client:

            async def once() -> int:
                return (await client.request("GET", PROVIDERS)).status

            with capture_logs() as logs:
                assert await update_with_generation("read it", once, wait_s=LONG_S) == 200
    assert request_lines(keystone) == [KNOCK, KNOCK, LOGIN]
    (again,) = [line for line in logs if line["event"] == "placement.retry"]
    assert 0 <= again["wait_s"] <= LEAST_CEILING_AWAY_S


async def test_a_server_far_away_is_not_a_busy_one() -> None:
    """What setting the connection up took is not counted, and what the server took is."""
    timing = ServerTiming()
    with a_peer(DOCUMENT) as keystone:
        async with connect(keystone.url, auth=None) as client:
            http = client._http
            await anyio.sleep(2)
            request = http.build_request("GET", keystone.url, extensions={"trace": timing.trace})
            sent_at = anyio.current_time()
            response = await http.send(request, stream=True)
            took_s = timing.took_s(response)
            least_s = anyio.current_time() - sent_at
            await response.aclose()
    assert 0 <= took_s <= least_s


async def test_a_handshake_that_waits_for_the_server_is_a_queue_too(cloud: Cloud, tmp_path: Path) -> None:
    ca = Ca(tmp_path)
    with a_proxy(cloud.auth_url.removesuffix("/v3"), tls=ca.serving()) as keystone:
        auth, verify = an_auth(keystone.url), context(Trust(ca_file=ca.file))
        async with connect(cloud.placement_url, auth=auth, verify=verify) as client:
            url = httpx.URL(keystone.url)
            # The proxy shakes hands with one after the other, and this one does not.
            first = await anyio.connect_tcp("127.0.0.1", url.port or 0)
            async with anyio.create_task_group() as group:
                group.start_soon(_close_after, first, 1.2)
                with pytest.raises(Unreachable, match="it is busy"):
                    await client.request("GET", PROVIDERS)
            await client.insisting().request("GET", PROVIDERS)
    assert request_lines(keystone) == [KNOCK, KNOCK, LOGIN]


async def _close_after(stream: anyio.abc.SocketStream, seconds: float) -> None:
    await anyio.sleep(seconds)
    await stream.aclose()
