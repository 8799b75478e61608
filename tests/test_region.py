"""A region that powers on: many hosts, one real Keystone with one worker, the gate's own code."""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import pytest

from bringup.placement.client import connect
from bringup.placement.gate import Waiting, pass_gate
from bringup.placement.keystone import KeystoneAuth
from support.haproxy import a_haproxy
from support.keystone import Cloud, start_cloud
from support.placement import fresh_name
from support.region import Region, an_identity

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

HOSTS = 20
SPREAD_S = 1.0
IMPATIENT_S = 0.5
"""Of the requests.  The logins alone take longer, one after the other: who gave one up would ask for it again."""
LIMIT_S = 180.0
UNPACED = 6
RETRY_AFTER_S = 2


@pytest.fixture
def anyio_backend() -> str:
    """Real servers and seconds: once is enough."""
    return "asyncio"


@pytest.fixture(scope="module")
def cloud() -> Cloud:
    """Start a cloud whose logins take 0.1 s of CPU time, and whose Placement checks tokens as it does by default."""
    return start_cloud(rounds=11, looks_up_each_time=False)


@pytest.mark.parametrize("away_s", [0.0, 4.0], ids=["there", "away at first"])
async def test_all_hosts_of_a_region_pass_and_keystone_works_for_each_once(cloud: Cloud, away_s: float) -> None:
    region = Region(cloud=cloud, hosts=HOSTS, spread_s=SPREAD_S, read_timeout_s=IMPATIENT_S)

    async with anyio.create_task_group() as group:
        if away_s:
            await anyio.to_thread.run_sync(cloud.stop_keystone)
            group.start_soon(_start_after, cloud, away_s)
        await region.power_on(LIMIT_S)

    assert len(region.passed_after_s) == HOSTS
    assert region.exits[os.EX_UNAVAILABLE] == 0
    assert region.logins <= 1.1 * HOSTS
    assert region.probes > HOSTS


async def _start_after(cloud: Cloud, away_s: float) -> None:
    await anyio.sleep(away_s)
    await anyio.to_thread.run_sync(cloud.start_keystone)


async def test_a_proxy_that_refuses_logins_while_the_queue_is_long_is_obeyed(cloud: Cloud, tmp_path: Path) -> None:
    """With the recipe of the page, while others log in without any pacing."""
    identity, heard, answers = an_identity(cloud), list[Waiting](), Counter[tuple[int, str | None]]()
    server = cloud.auth_url.removesuffix("/v3").removeprefix("http://")
    with a_haproxy(tmp_path, server, longest=2, retry_after_s=RETRY_AFTER_S) as url:

        def was_refused() -> bool:
            return any(waiting.error.status == 503 for waiting in heard)

        async def log_in_again_and_again(http: httpx.AsyncClient) -> None:
            while not was_refused():
                answer = await http.post(f"{url}/v3/auth/tokens", json=identity.document())
                answers[answer.status_code, answer.headers.get("Retry-After")] += 1

        async with httpx.AsyncClient(timeout=LIMIT_S, trust_env=False) as http, anyio.create_task_group() as others:
            for _ in range(UNPACED):
                others.start_soon(log_in_again_and_again, http)
            while not was_refused():
                auth = KeystoneAuth(replace(identity, auth_url=url))
                async with connect(cloud.placement_url, auth=auth) as client:
                    # Its probe is as slow as its machine: it logs in all the same.
                    host = client.insisting()
                    await pass_gate(host, provider=fresh_name(), wait_s=LIMIT_S, create=True, on_wait=heard.append)

    [refusal, *_] = [waiting for waiting in heard if waiting.error.status == 503]
    assert refusal.wait_s >= RETRY_AFTER_S
    assert str(refusal).startswith("waiting for Keystone: answered 503, next attempt in ")
    assert set(answers) == {(201, None), (503, str(RETRY_AFTER_S))}
