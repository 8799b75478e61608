import ssl

import pytest
from structlog.testing import capture_logs

from bringup.placement.client import connect
from bringup.placement.errors import NotUnderstood, PlacementError, Unreachable
from support.placement import DOCUMENT, NOTHING, TOKEN, a_client, a_peer, an_answer, nobody, real_placement

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("path", ["", "/", "/placement", "/placement/"])
async def test_the_url_may_have_a_path_and_a_slash_at_its_end(path: str) -> None:
    with a_peer(an_answer(content=DOCUMENT)) as peer:
        async with a_client(peer.url + path) as client:
            await client.request("GET", "/resource_providers")
    (head,) = peer.requests
    assert head.startswith(f"GET {path.rstrip('/')}/resource_providers HTTP/1.1\r\n")


URLS = {
    "nothing": "",
    "no scheme": "placement:8778",
    "another scheme": "ftp://placement/",
    "no host": "http:///placement",
    "a query": "http://placement/?x=1",
    "credentials": "http://admin:s3cr3t@placement/",
    "a port of letters": "http://admin:s3cr3t@placement:port/",
    "control characters": "http://placement/\x00",
}


@pytest.mark.parametrize("url", URLS.values(), ids=URLS.keys())
async def test_a_url_that_cannot_be_used_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(NotUnderstood, match=r"cannot use placement\.url") as caught:
        async with connect(url, auth=None):
            pass
    assert "s3cr3t" not in str(caught.value)


async def test_a_host_name_that_cannot_be_one_is_permanent() -> None:
    async with a_client(f"http://{'a' * 64}.example") as client:
        with pytest.raises(PlacementError) as caught:
            await client.request("GET", "/")
    assert "host name" in caught.value.why


async def test_a_server_without_tls_is_reported_to_have_none() -> None:
    with a_peer(b"HTTP/1.1 400 Bad Request\r\n\r\n") as peer:
        async with connect(peer.url.replace("http:", "https:"), auth=None) as client:
            with pytest.raises(Unreachable, match="it does not speak TLS"):
                await client.request("GET", "/")


async def test_certificates_of_ones_own_can_be_trusted() -> None:
    async with connect("https://placement/", auth=None, verify=ssl.create_default_context()) as client:
        assert client.url == "https://placement"


def everything_of(error: BaseException | None) -> str:
    shown = ""
    while error is not None:
        shown += f"{error} {error!r} {vars(error) if isinstance(error, PlacementError) else None} "
        error = error.__cause__ or error.__context__
    return shown


ECHOES = {
    "in an error": an_answer(500, {"errors": [{"detail": f"you sent {TOKEN}"}]}),
    "in a page": an_answer(400, f"<p>{TOKEN}".encode()),
    "in no error": an_answer(200, f"<p>{TOKEN}".encode()),
    "not at all": NOTHING,
}


@pytest.mark.parametrize("answer", ECHOES.values(), ids=ECHOES.keys())
async def test_the_token_is_in_no_log_line_no_error_and_no_repr(answer: bytes) -> None:
    with a_peer(answer) as peer, capture_logs() as logs:
        async with a_client(peer.url) as client:
            with pytest.raises(PlacementError) as caught:
                (await client.request("GET", "/resource_providers")).json()
            shown = f"{client!r} {logs}"
    assert f"x-auth-token: {TOKEN}\r\n" in peer.requests[0].lower()
    assert TOKEN.partition(":")[2] not in shown + everything_of(caught.value)


async def test_no_token_means_no_header() -> None:
    with a_peer(an_answer(content=DOCUMENT)) as peer:
        async with a_client(peer.url, token=None) as client:
            await client.request("GET", "/")
    assert "x-auth-token" not in peer.requests[0].lower()


async def test_proxies_of_the_environment_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    with nobody() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("ALL_PROXY", proxy)
        async with a_client(real_placement()) as client:
            assert (await client.request("GET", "/")).status == 200
