"""A region that powers on: many hosts, one real Keystone with one worker, the gate's own code."""

import os

import anyio
import anyio.to_thread
import pytest

from support.keystone import Cloud, start_cloud
from support.region import Region

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

HOSTS = 20
SPREAD_S = 1.0
IMPATIENT_S = 0.5
"""Of the requests.  The logins alone take longer, one after the other: who gave one up would ask for it again."""
LIMIT_S = 180.0


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
