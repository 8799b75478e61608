import random
import time
import uuid
from collections.abc import Iterator

import anyio
import pytest
import stamina
from structlog.testing import capture_logs

from bringup.placement.errors import (
    GateClosed,
    NotUnderstood,
    PlacementError,
    ProviderMissing,
    Unauthorized,
    Unreachable,
)
from bringup.placement.gate import Waiting, pass_gate, probe
from bringup.placement.providers import ResourceProvider
from support.placement import DOCUMENT, HANG, NOTHING, TOKEN, a_client, a_peer, an_answer, fresh_name, nobody

pytestmark = pytest.mark.anyio

PROVIDER = {"uuid": str(uuid.UUID(int=1)), "name": "compute-1", "generation": 3}
VERSIONS = an_answer(content=DOCUMENT)
FOUND = an_answer(content={"resource_providers": [PROVIDER]})
BUSY = an_answer(503, {"message": "Not now."}, x_openstack_request_id="req-busy")
LONG_S = 60.0
"""More than any test takes."""


@pytest.fixture
def without_waits() -> Iterator[None]:
    """Retry at once, 5 attempts at most."""
    with stamina.set_testing(True, attempts=5):
        yield


async def test_a_known_provider_passes() -> None:
    name = fresh_name()
    async with a_client() as client:
        made = await pass_gate(client, provider=name, wait_s=LONG_S, create=True)
        again = await pass_gate(client, provider=name, wait_s=LONG_S, create=True)
        by_uuid = await pass_gate(client, provider=made.provider.uuid, wait_s=0)
    assert (made.created, again.created) == (True, False)
    assert made.provider == again.provider == by_uuid.provider
    assert str(made.microversion) == "1.20"


async def test_a_provider_is_made_with_the_uuid_of_the_node() -> None:
    name, node = fresh_name(), str(uuid.uuid4())
    async with a_client() as client:
        gate = await pass_gate(client, provider=name, wait_s=LONG_S, create=True, uuid=node)
    assert gate.provider == ResourceProvider(node, name, 0)


async def test_a_missing_provider_is_permanent_and_says_how_to_make_it() -> None:
    name = fresh_name() + " x"
    async with a_client() as client:
        with pytest.raises(ProviderMissing) as caught:
            await pass_gate(client, provider=name, wait_s=LONG_S)
    assert f"cannot find resource provider '{name}' in Placement at http://127.0.0.1" in str(caught.value)
    assert f"openstack resource provider create '{name}', or" in str(caught.value)
    assert "placement.create_resource_provider = true" in str(caught.value)


async def test_a_uuid_that_is_not_there_is_not_made_into_a_name() -> None:
    async with a_client() as client:
        with pytest.raises(ProviderMissing, match=r"set placement\.resource_provider to the name"):
            await pass_gate(client, provider=str(uuid.uuid4()), wait_s=LONG_S, create=True)


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("someuser", 403)])
async def test_who_is_not_let_in_is_told_at_once(token: str | None, status: int) -> None:
    async with a_client(token=token) as client:
        with pytest.raises(Unauthorized) as caught:
            await pass_gate(client, provider="compute-1", wait_s=LONG_S)
    assert caught.value.status == status


PERMANENT = {
    "not found": (an_answer(404, b"no such page"), NotUnderstood, "there is no version document"),
    "another service": (
        an_answer(content={"versions": {"values": []}}),
        NotUnderstood,
        "the version document is not Placement's; check that placement.url names Placement",
    ),
    "HTML": (an_answer(content=b"<html>"), NotUnderstood, "where JSON was expected"),
    "truncated JSON": (
        VERSIONS[: VERSIONS.index(b"{")].replace(b"Length: 96", b"Length: 5") + b'{"ver',
        NotUnderstood,
        "where JSON was expected",
    ),
    "too new": (
        an_answer(content={"versions": [{"min_version": "1.50", "max_version": "1.60"}]}),
        NotUnderstood,
        "a newer bringup is needed",
    ),
    "redirect": (an_answer(301, b"", location="https://p/"), NotUnderstood, "it redirects to https://p/"),
    "unauthorized": (an_answer(401, {"error": {"message": "Log in."}}), Unauthorized, "Log in."),
    "not acceptable": (an_answer(406, b""), NotUnderstood, "answered 406"),
}


@pytest.mark.parametrize(("answer", "kind", "words"), PERMANENT.values(), ids=PERMANENT.keys())
async def test_what_time_cannot_mend_ends_the_start_after_one_request(
    answer: bytes, kind: type[PlacementError], words: str
) -> None:
    with a_peer(answer) as peer:
        async with a_client(peer.url) as client:
            with pytest.raises(kind) as caught:
                await pass_gate(client, provider="compute-1", wait_s=LONG_S)
    assert words in str(caught.value)
    assert len(peer.requests) == 1


TRANSIENT = {
    "500": an_answer(500, b""),
    "503": BUSY,
    "503 that asks for patience": an_answer(503, b"", retry_after="1"),
    "429": an_answer(429, b""),
    "a page of a proxy": an_answer(502, b"<html>"),
    "nothing": NOTHING,
    "half an answer": VERSIONS[:-9],
}


@pytest.mark.usefixtures("without_waits")
@pytest.mark.parametrize("answer", TRANSIENT.values(), ids=TRANSIENT.keys())
async def test_what_passes_is_waited_for(answer: bytes) -> None:
    heard: list[Waiting] = []
    with a_peer(answer, answer, VERSIONS, answer, VERSIONS, FOUND) as peer:
        async with a_client(peer.url) as client:
            gate = await pass_gate(client, provider="compute-1", wait_s=LONG_S, on_wait=heard.append)
    assert gate.provider == ResourceProvider(**PROVIDER)
    assert [waiting.attempt for waiting in heard] == [1, 2, 3]


@pytest.mark.usefixtures("without_waits")
async def test_progress_hears_the_attempt_and_the_reason() -> None:
    heard: list[str] = []
    with nobody() as url:
        async with a_client(url) as client:
            with pytest.raises(GateClosed):
                await pass_gate(client, provider="x", wait_s=LONG_S, on_wait=lambda waiting: heard.append(str(waiting)))
    assert heard[2] == "waiting for Placement, attempt 3, last: connection refused"


@pytest.mark.usefixtures("without_waits")
async def test_retry_after_is_honoured() -> None:
    heard: list[Waiting] = []
    with a_peer(an_answer(503, b"", retry_after="17"), VERSIONS, FOUND) as peer:
        async with a_client(peer.url) as client:
            await pass_gate(client, provider="compute-1", wait_s=LONG_S, on_wait=heard.append)
    assert 17 <= heard[0].wait_s <= 22


@pytest.mark.usefixtures("without_waits")
async def test_two_hosts_do_not_come_back_at_the_same_times() -> None:
    waits: list[list[float]] = []
    for seed in (1, 2, 1):
        random.seed(seed)
        heard: list[Waiting] = []
        with nobody() as url:
            async with a_client(url) as client:
                with pytest.raises(GateClosed):
                    await pass_gate(client, provider="x", wait_s=LONG_S, on_wait=heard.append)
        waits.append([waiting.wait_s for waiting in heard])
    assert waits[0] == waits[2]
    assert not set(waits[0]) & set(waits[1])


async def test_the_wait_that_is_announced_is_the_wait_that_is_made() -> None:
    heard: list[Waiting] = []
    with a_peer(BUSY, VERSIONS, FOUND) as peer, capture_logs() as logs:
        async with a_client(peer.url) as client:
            await pass_gate(client, provider="compute-1", wait_s=LONG_S, on_wait=heard.append)
    (line,) = [line for line in logs if line["event"] == "stamina.retry_scheduled"]
    assert line["wait_for"] == round(heard[0].wait_s, 2)
    assert "answered 503; Not now. (request req-busy)" in line["caused_by"]


BUDGETS = {
    "refusing": (BUSY, "answered 503; Not now.); check the log of Placement"),
    "hanging": (HANG, "no answer yet); check that it runs, that placement.url is right"),
    "asking for patience": (an_answer(503, b"", retry_after="3600"), "answered 503); check the log of Placement"),
}


@pytest.mark.parametrize(("answer", "words"), BUDGETS.values(), ids=BUDGETS.keys())
async def test_a_start_stays_within_its_budget(answer: bytes, words: str) -> None:
    began = time.monotonic()
    with a_peer(answer) as peer:
        async with a_client(peer.url) as client:
            with anyio.fail_after(10), pytest.raises(GateClosed) as caught:
                await pass_gate(client, provider="compute-1", wait_s=0.3)
    assert 0.25 < time.monotonic() - began < 3
    assert str(caught.value).startswith(f"cannot start without Placement at {peer.url}: it was not ready in 0.3")
    assert words in str(caught.value)


@pytest.mark.usefixtures("without_waits")
async def test_a_closed_gate_says_what_was_tried_and_keeps_the_last_answer() -> None:
    with a_peer(BUSY) as peer:
        async with a_client(peer.url) as client:
            with pytest.raises(GateClosed, match=r"\(5 attempts, last: answered 503; Not now\.\)") as caught:
                await pass_gate(client, provider="compute-1", wait_s=LONG_S)
    assert str(caught.value).endswith("(request req-busy)")
    assert (caught.value.status, caught.value.request_id) == (503, "req-busy")
    assert isinstance(caught.value.__cause__, Unreachable)
    assert not caught.value.transient


async def test_no_budget_means_one_attempt() -> None:
    heard: list[Waiting] = []
    with a_peer(BUSY) as peer:
        async with a_client(peer.url) as client:
            with pytest.raises(GateClosed, match="1 attempt, last"):
                await pass_gate(client, provider="compute-1", wait_s=0, on_wait=heard.append)
    assert (len(peer.requests), heard) == (1, [])


async def test_a_cancelled_start_stops_waiting_and_is_no_error() -> None:
    with a_peer(HANG) as peer:
        async with a_client(peer.url) as client:
            with anyio.move_on_after(0.1) as scope:
                await pass_gate(client, provider="compute-1", wait_s=LONG_S)
    assert scope.cancelled_caught


async def test_a_probe_tells_the_error_itself_after_one_attempt() -> None:
    with a_peer(BUSY) as peer:
        async with a_client(peer.url) as client:
            with pytest.raises(Unreachable):
                await probe(client, provider="compute-1")
    assert len(peer.requests) == 1


async def test_a_probe_makes_nothing() -> None:
    async with a_client() as client:
        name = fresh_name()
        for _ in range(2):
            with pytest.raises(ProviderMissing):
                await probe(client, provider=name)


async def test_an_old_server_is_spoken_to_in_its_own_words() -> None:
    old = {"versions": [{"id": "v1.0", "min_version": "1.0", "max_version": "1.4"}]}
    location = f"/resource_providers/{PROVIDER['uuid']}"
    with a_peer(
        an_answer(content=old),
        an_answer(content={"resource_providers": []}),
        an_answer(201, b"", location=location),
        an_answer(content=PROVIDER),
    ) as peer:
        async with a_client(peer.url) as client:
            gate = await pass_gate(client, provider="compute-1", wait_s=LONG_S, create=True)
    assert (str(gate.microversion), gate.created) == ("1.4", True)
    spoken = ["openstack-api-version: placement 1.4" in head.lower() for head in peer.requests]
    assert spoken == [False, True, True, True]


async def test_a_passed_gate_is_logged_without_the_token() -> None:
    name = fresh_name()
    with capture_logs() as logs:
        async with a_client() as client:
            await pass_gate(client, provider=name, wait_s=LONG_S, create=True)
    (line,) = [line for line in logs if line["log_level"] == "info"]
    assert (line["event"], line["provider"], line["created"], line["attempts"]) == ("placement.passed", name, True, 1)
    assert TOKEN.partition(":")[2] not in str(logs)
