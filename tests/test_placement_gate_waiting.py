import random
import time
import uuid

import anyio
import pytest

from bringup.placement.auth import NoAuth
from bringup.placement.client import connect
from bringup.placement.errors import (
    GateClosed,
    Unreachable,
)
from bringup.placement.gate import Waiting, pass_gate
from bringup.placement.providers import ResourceProvider
from support.faulty_proxy import LATE_S, a_proxy
from support.placement import HANG, NOTHING, TOKEN, a_client, a_peer, an_answer, fresh_name, nobody, real_placement
from support.retries import recording, without_waits

pytestmark = pytest.mark.anyio

PROVIDER = {"uuid": str(uuid.UUID(int=1)), "name": "compute-1", "generation": 3}
FOUND = an_answer(content={"resource_providers": [PROVIDER]})
BUSY = an_answer(503, {"message": "Not now."}, x_openstack_request_id="req-busy")
LONG_S = 60.0
"""More than any test takes."""


AT_ONCE = without_waits(5)


TRANSIENT = {
    "500": an_answer(500, b""),
    "503": BUSY,
    "503 that asks for patience": an_answer(503, b"", retry_after="1"),
    "429": an_answer(429, b""),
    "a page of a proxy": an_answer(502, b"<html>"),
    "nothing": NOTHING,
    "half an answer": FOUND[:-9],
}


@pytest.mark.parametrize("answer", TRANSIENT.values(), ids=TRANSIENT.keys())
async def test_what_passes_is_waited_for(answer: bytes) -> None:
    heard: list[Waiting] = []
    with a_peer(answer, answer, answer, FOUND) as peer:
        async with a_client(peer.url) as client:
            gate = await pass_gate(client, provider="compute-1", wait_s=LONG_S, policy=AT_ONCE, on_wait=heard.append)
    assert gate.provider == ResourceProvider(str(uuid.UUID(int=1)), "compute-1", 3)
    assert [waiting.attempt for waiting in heard] == [1, 2, 3]


async def test_progress_receives_the_attempt_and_the_reason() -> None:
    heard: list[str] = []
    with nobody() as url:
        async with a_client(url) as client:
            with pytest.raises(GateClosed):
                await pass_gate(
                    client,
                    provider="x",
                    wait_s=LONG_S,
                    policy=AT_ONCE,
                    on_wait=lambda each: heard.append(str(each)),
                )
    assert heard[2] == "waiting for Placement, attempt 3, last: connection refused"


async def test_retry_after_is_honoured() -> None:
    heard: list[Waiting] = []
    with a_peer(an_answer(503, b"", retry_after="17"), FOUND) as peer:
        async with a_client(peer.url) as client:
            await pass_gate(client, provider="compute-1", wait_s=LONG_S, policy=AT_ONCE, on_wait=heard.append)
    assert 17 <= heard[0].wait_s <= 22


async def test_two_hosts_do_not_come_back_at_the_same_times() -> None:
    waits: list[list[float]] = []
    for seed in (1, 2, 1):
        random.seed(seed)
        heard: list[Waiting] = []
        with nobody() as url:
            async with a_client(url) as client:
                with pytest.raises(GateClosed):
                    await pass_gate(client, provider="x", wait_s=LONG_S, policy=AT_ONCE, on_wait=heard.append)
        waits.append([waiting.wait_s for waiting in heard])
    assert waits[0] == waits[2]
    assert not set(waits[0]) & set(waits[1])


async def test_the_wait_that_is_announced_is_the_wait_that_is_made() -> None:
    heard: list[Waiting] = []
    made: list[float] = []
    with a_peer(BUSY, FOUND) as peer:
        async with a_client(peer.url) as client:
            await pass_gate(
                client, provider="compute-1", wait_s=LONG_S, on_wait=heard.append, policy=recording(made, attempts=5)
            )
    assert made == [heard[0].wait_s]
    assert "answered 503; Not now. (request req-busy)" in str(heard[0].error)


BUDGETS = {
    "refusing": (BUSY, "answered 503; Not now.); check the log of Placement"),
    "hanging": (HANG, "no answer yet); check that it runs, that placement.url is right"),
    "asking for patience": (an_answer(503, b"", retry_after="3600"), "answered 503); check the log of Placement"),
}


@pytest.mark.parametrize(("answer", "words"), BUDGETS.values(), ids=BUDGETS.keys())
async def test_a_start_stays_within_its_budget(answer: bytes, words: str) -> None:
    began = time.monotonic()
    with a_peer(answer) as peer:
        async with a_client(peer.url, read_timeout_s=100) as client:
            with anyio.fail_after(50), pytest.raises(GateClosed) as caught:
                await pass_gate(client, provider="compute-1", wait_s=0.3)
    assert time.monotonic() - began > 0.25
    assert str(caught.value).startswith(f"cannot start without Placement at {peer.url}: it was not ready in 0.3")
    assert words in str(caught.value)


async def test_a_closed_gate_reports_what_was_tried_and_keeps_the_last_answer() -> None:
    with a_peer(BUSY) as peer:
        async with a_client(peer.url) as client:
            with pytest.raises(GateClosed, match=r"\(5 attempts, last: answered 503; Not now\.\)") as caught:
                await pass_gate(client, provider="compute-1", wait_s=LONG_S, policy=AT_ONCE)
    assert str(caught.value).endswith("(request req-busy)")
    assert (caught.value.status, caught.value.request_id) == (503, "req-busy")
    assert isinstance(caught.value.__cause__, Unreachable)
    assert not caught.value.transient


async def test_an_answer_that_does_not_come_in_time_is_waited_for_longer_the_next_time() -> None:
    name = fresh_name()
    async with a_client() as client:
        await pass_gate(client, provider=name, wait_s=LONG_S, create=True)
    heard: list[Waiting] = []
    with a_proxy(real_placement(), ["late"] * 20) as placement:
        async with connect(
            placement.url, auth=NoAuth(TOKEN), connect_timeout_s=0.1, read_timeout_s=LATE_S / 3
        ) as client:
            gate = await pass_gate(client, provider=name, wait_s=LONG_S, on_wait=heard.append)
    assert gate.provider.name == name
    assert [waiting.error.is_late for waiting in heard] == [True, True]


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
