import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bringup.placement.auth import NoAuth
from bringup.placement.bounded_body import ID_LIMIT, clean_id
from bringup.placement.client import connect
from bringup.placement.errors import PlacementError
from support.placement import TOKEN, a_client, a_peer, an_answer

pytestmark = pytest.mark.anyio

EVIL = {
    "colours": "req-1\x9b31m",
    "a title": "req-\x1b]0;owned\x07",
    "lines": "req-1\r\nbringup: all is well",
    "long": "req-" + "a" * 100_000,
    "our token": f"req-{TOKEN}",
    "words": "req-1) rm -rf /",
    "right to left": "req-\u202egnp",
    "a list": ["req-1"],
    "a number": 5,
}


@given(st.text() | st.text(alphabet="req-0123456789abcdef"))
def test_an_id_is_short_and_cannot_be_anything_but_an_id(text: str) -> None:
    found = clean_id(text) or "req-1"
    assert 0 < len(found) <= ID_LIMIT
    assert found.isascii()
    assert found.isprintable()
    assert " " not in found


def test_an_id_of_openstack_is_kept() -> None:
    assert clean_id("req-4abf5327-d127-4edb-a19c-f0ab67553a77") == "req-4abf5327-d127-4edb-a19c-f0ab67553a77"
    assert clean_id(None) is clean_id("") is clean_id("\n") is clean_id("req-s3cr3t", secrets=["", "s3cr3t"]) is None


@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL.keys())
async def test_an_id_in_the_body_of_an_answer_is_cleaned(evil: object) -> None:
    body = {"errors": [{"status": 400, "detail": "No.", "request_id": evil, "code": f"placement.{evil}"}]}
    with a_peer(an_answer(400, body)) as peer:
        async with a_client(peer.url) as client:
            with pytest.raises(PlacementError) as caught, capture_logs() as logs:
                await client.request("GET", "/")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    assert TOKEN not in f"{caught.value} {vars(caught.value)} {logs}"
    assert caught.value.code is None


@pytest.mark.parametrize("status", [200, 400, 503])
async def test_an_id_in_a_header_does_not_bring_our_token_into_the_log(status: int) -> None:
    answer = an_answer(status, {}, x_openstack_request_id="req-s3cr3t")
    with a_peer(answer) as peer, capture_logs() as logs:
        async with connect(peer.url, auth=NoAuth("s3cr3t")) as client:
            refused = contextlib.nullcontext() if status == 200 else pytest.raises(PlacementError)
            with refused as caught:
                await client.request("GET", "/")
    assert "s3cr3t" not in f"{logs} {caught and vars(caught.value)} {caught and caught.value}"
