import gzip
import json

import anyio
import httpx
import pytest
from structlog.testing import capture_logs

from bringup.placement.catalogue import WantedEndpoint
from bringup.placement.client import Address, PlacementClient
from bringup.placement.errors import NotUnderstood, Unauthorized, Unreachable
from bringup.placement.microversions import Microversion
from bringup.placement.response import BODY_LIMIT
from support.placement import DOCUMENT, HANG, NOTHING, a_client, a_peer, an_answer, nobody

pytestmark = pytest.mark.anyio


async def test_the_real_placement_shows_its_versions_without_a_token() -> None:
    async with a_client(token=None) as client:
        answer = await client.request("GET", "/")
    assert answer.json()["versions"][0]["max_version"] == "1.39"
    assert (answer.request_id or "").startswith("req-")


async def test_the_real_placement_asks_for_a_token() -> None:
    async with a_client(token=None) as client:
        with pytest.raises(Unauthorized, match=r"answered 401; .*; check the token \(request req-.*\)$") as caught:
            await client.request("GET", "/resource_providers")
    assert "<br" not in str(caught.value)


async def test_the_real_placement_asks_for_a_role() -> None:
    async with a_client(token="someuser") as client:
        with pytest.raises(Unauthorized, match=r"answered 403; .*; its user needs the role admin or service") as caught:
            await client.request("GET", "/resource_providers")
    assert caught.value.status == 403


async def test_the_real_placement_speaks_the_microversion_that_it_is_asked_for() -> None:
    async with a_client() as client:
        answer = await client.at(Microversion(1, 20)).request("GET", "/resource_providers", params={"name": "x"})
    assert answer.headers["OpenStack-API-Version"] == "placement 1.20"


async def test_the_real_placement_refuses_a_microversion_that_it_has_not() -> None:
    async with a_client() as client:
        with pytest.raises(NotUnderstood, match=r"answered 406; .*1\.99 \(it has 1\.0 to 1\.39\)"):
            await client.at(Microversion(1, 99)).request("GET", "/resource_providers")


ANSWERS = {
    "500": (an_answer(500, {"errors": [{"detail": "Oh."}]}, x_openstack_request_id="req-1"), "answered 500; Oh."),
    "503": (an_answer(503, {"message": "Away.", "code": "503"}), "answered 503; Away."),
    "502 page": (an_answer(502, b"<html><title>Bad Gateway</title>"), 'answered 502; a page "Bad Gateway"'),
    "nothing": (NOTHING, "the answer broke off, or is not HTTP"),
    "not HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n", "the answer broke off, or is not HTTP"),
    "half a body": (an_answer(content=DOCUMENT)[:-10], "the answer broke off, or is not HTTP"),
}


@pytest.mark.parametrize(("answer", "expected"), ANSWERS.values(), ids=ANSWERS.keys())
async def test_an_answer_that_says_not_now_is_transient(answer: bytes, expected: str) -> None:
    with a_peer(answer) as peer:
        async with a_client(peer.url) as client:
            with pytest.raises(Unreachable) as caught:
                await client.request("GET", "/")
    assert caught.value.why == expected
    assert str(caught.value).startswith(f"cannot GET / of Placement at {peer.url}: {expected}")


async def test_an_answer_that_breaks_off_keeps_its_request_id() -> None:
    with a_peer(an_answer(content=DOCUMENT, x_openstack_request_id="req-7")[:-10]) as peer:
        async with a_client(peer.url) as client:
            with pytest.raises(Unreachable) as caught:
                await client.request("GET", "/")
    assert caught.value.request_id == "req-7"


async def test_nobody_there_is_reported_in_the_words_of_the_system() -> None:
    with nobody() as url:
        async with a_client(url) as client:
            with pytest.raises(Unreachable, match="connection refused"):
                await client.request("GET", "/")


async def test_a_server_that_hangs_is_given_up() -> None:
    with a_peer(HANG) as peer:
        async with a_client(peer.url, read_timeout_s=0.1) as client:
            with anyio.fail_after(9), pytest.raises(Unreachable, match="no answer in time"):
                await client.request("GET", "/")


async def test_one_request_has_a_deadline_of_its_own_however_often_it_gets_a_byte() -> None:
    with a_peer(HANG) as peer:
        address = Address(url=httpx.URL(peer.url), wanted=WantedEndpoint())
        async with httpx.AsyncClient(timeout=None) as http:  # noqa: S113 - the other deadline counts
            with anyio.fail_after(9), pytest.raises(Unreachable, match="no whole answer in time"):
                await PlacementClient(http, address, deadline_s=0.1).request("GET", "/")


MISUNDERSTOOD = {
    "HTML": an_answer(content=b"<html><title>Login</title>", content_type="text/html"),
    "truncated JSON": an_answer(content=b'{"versions": [{"id"', content_type="application/json"),
    "not UTF-8": an_answer(content=b'{"versions": "\xff"}'),
    "empty": an_answer(content=b""),
    "too deep": an_answer(content=b"[" * 100_000),
}


@pytest.mark.parametrize("answer", MISUNDERSTOOD.values(), ids=MISUNDERSTOOD.keys())
async def test_an_answer_that_is_not_json_is_not_understood(answer: bytes) -> None:
    with a_peer(answer) as peer:
        async with a_client(peer.url) as client:
            received = await client.request("GET", "/")
    with pytest.raises(NotUnderstood, match=r"where JSON was expected; check that placement\.url names Placement"):
        received.json()


async def test_an_answer_that_is_compressed_unasked_is_not_understood() -> None:
    with a_peer(an_answer(content=gzip.compress(json.dumps(DOCUMENT).encode()), content_encoding="gzip")) as peer:
        async with a_client(peer.url) as client:
            with pytest.raises(NotUnderstood, match="the answer is encoded as gzip"):
                await client.request("GET", "/")
    assert "accept-encoding: identity" in peer.requests[0].lower()


async def test_an_answer_that_is_reported_to_be_huge_is_not_read() -> None:
    with a_peer(f"HTTP/1.1 200 OK\r\nContent-Length: {BODY_LIMIT + 1}\r\n\r\n".encode()) as peer:
        async with a_client(peer.url) as client:
            with pytest.raises(NotUnderstood, match="the answer is longer than"):
                await client.request("GET", "/")


# On trio httpx leaves its generators to be collected, with a warning, when reading is given up.
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_answer_that_turns_out_to_be_huge_does_not_fill_the_memory() -> None:
    with a_peer(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b" " * (BODY_LIMIT + 1)) as peer:
        async with a_client(peer.url) as client:
            with pytest.raises(NotUnderstood, match="the answer is longer than"):
                await client.request("GET", "/")


async def test_a_redirect_is_not_followed_with_the_token() -> None:
    with a_peer(an_answer(200)) as other, a_peer(an_answer(302, b"", location=other.url)) as peer:
        async with a_client(peer.url) as client:
            with pytest.raises(NotUnderstood, match=f"it redirects to {other.url}"):
                await client.request("GET", "/")
    assert other.requests == []


async def test_every_request_is_logged_with_its_request_id() -> None:
    with capture_logs() as logs:
        async with a_client() as client:
            answer = await client.request("GET", "/resource_providers", params={"name": "x"})
    (line,) = logs
    assert line.pop("took_s") > 0
    assert line == {
        "event": "placement.request",
        "log_level": "debug",
        "method": "GET",
        "path": "/resource_providers",
        "params": {"name": "x"},
        "status": 200,
        "request_id": answer.request_id,
    }


async def test_a_request_without_an_answer_is_logged_too() -> None:
    with nobody() as url, capture_logs() as logs:
        async with a_client(url) as client:
            with pytest.raises(Unreachable):
                await client.request("GET", "/")
    assert [(line["event"], line["error"]) for line in logs] == [("placement.request", "connection refused")]
