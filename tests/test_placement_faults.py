"""The network between us and the real Keystone and Placement does its worst.

Each schedule ends in one of two ways: everything is as it should be in Placement, or the start ends (69) with nothing
half done.  A page where JSON was expected is for an operator to mend and ends it at once; all else is repeated where it
is safe to.  Either way the next start finds what is left to do.
"""

import os
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from bringup.daemon.errors import Unavailable
from bringup.daemon.settings import Settings, load
from bringup.daemon.storage.store.sql import SqlStore
from bringup.placement.client import PlacementClient
from bringup.placement.credentials import Login, Named, Password
from bringup.placement.keystone import KeystoneAuth
from bringup.placement.microversions import NEEDED
from bringup.placement.traits import NODE_TRAITS
from support.faulty_proxy import a_proxy, a_schedule
from support.keystone import PASSWORD, Cloud, a_cloud, patient_client
from support.placed import ROOM, Provider, a_provider, allocate, holders
from support.placement import fresh_name
from support.starts import CAPACITY, Start, store_evacuated
from support.stores import open_sqlite

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

SCHEDULES = 100
"""On each backend."""
CHUNK = 20
AT_ONCE = 5
RIGHT = {"VCPU": CAPACITY.vcpus, "MEMORY_MB": CAPACITY.memory_mb, "DISK_GB": CAPACITY.local_gb}
BEFORE = {name: document["total"] for name, document in ROOM.items()}


@pytest.fixture(scope="module")
def cloud() -> Cloud:
    return a_cloud()


def an_administrator(cloud: Cloud) -> KeystoneAuth:
    method = Password(user=Named(name="admin"), secret=PASSWORD)
    return KeystoneAuth(Login(auth_url=cloud.auth_url, method=method, project=Named(name="admin")))


def settings(cloud: Cloud, directory: Path, **placement: Any) -> Settings:
    values = {
        "placement.auth": "keystone",
        "placement.url": cloud.placement_url,
        "placement.wait": "60",
        "placement.read_timeout": "2",
        "placement.create_resource_provider": "true",
        "inventory.update": "true",
        "inventory.cpu_allocation_ratio": "2.0",
        "keystone.auth_url": cloud.auth_url,
        "keystone.username": "admin",
        "keystone.password": PASSWORD,
        "keystone.project_name": "admin",
        "host.state_directory": str(directory),
        **{f"placement.{key}": value for key, value in placement.items()},
    }
    config = directory / "bringup.toml"
    config.touch(mode=0o600)
    environment = {f"BRINGUP_{key.upper().replace('.', '__')}": value for key, value in values.items()}
    return load(config, environment=environment, overrides=())


async def error_from_response(start: Start) -> Unavailable | None:
    """Start; return what keeps the host from it."""
    try:
        await start.run()
    except Unavailable as error:
        return error
    return None


@dataclass
class Case:
    """One schedule: a host, and an instance that was evacuated from it, if it is known in Placement already."""

    seed: int
    cloud: Cloud
    client: PlacementClient
    there: Provider
    directory: Path
    store: SqlStore

    async def run(self) -> str:
        """Start once with faults, and once more without; return how the first one ended."""
        name, node, consumer = fresh_name(), str(uuid.uuid4()), str(uuid.uuid4())
        here = None
        if self.seed % 2:
            here = await a_provider(self.client)
            name, node = here.name, here.uuid
            await allocate(self.client, consumer, here, self.there)
            await store_evacuated(self.store, consumer)
        with ExitStack() as proxies:
            keystone = proxies.enter_context(a_proxy(self.cloud.auth_url, a_schedule(self.seed + 10_000, most=3)))
            placement = proxies.enter_context(a_proxy(self.cloud.placement_url, a_schedule(self.seed)))
            to_cloud = Cloud(self.directory, f"{keystone.url}/v3", placement.url)
            # The proxy stands before the version already.
            keystone.upstream = self.cloud.auth_url.removesuffix("/v3")
            start = Start(settings(to_cloud, self.directory, resource_provider=name), self.store, node)
            ending = await self._ending(start, name, node, consumer if here else None)
        assert placement.generations == sorted(placement.generations), "a generation went back"
        again = Start(settings(self.cloud, self.directory, resource_provider=name), self.store, node)
        await again.run()
        assert await self._totals(node) == RIGHT
        if here is not None:
            assert await holders(self.client, consumer) == {self.there.uuid}
        return ending

    async def _ending(self, start: Start, name: str, node: str, consumer: str | None) -> str:
        error = await error_from_response(start)
        if error is not None:
            assert (error.exit_code, "cannot" in str(error)) == (os.EX_UNAVAILABLE, True)
        else:
            provider = Provider(self.client, node, name)
            assert await self._totals(node) == RIGHT
            assert await provider.traits() >= NODE_TRAITS
        # Nothing half done: the old inventory or the new one, and never less than there was on the other host.
        assert await self._totals(node) in ({}, BEFORE, RIGHT)
        if consumer is not None:
            assert self.there.uuid in await holders(self.client, consumer)
        return "right" if error is None else "69"

    async def _totals(self, node: str) -> dict[str, int]:
        found = await self.client.request("GET", "/resource_providers", params={"uuid": node})
        if not found.json()["resource_providers"]:
            return {}
        documents = await Provider(self.client, node, "").inventories()
        assert all(document["allocation_ratio"] in (1.0, 2.0) for document in documents.values())
        return {class_name: document["total"] for class_name, document in documents.items()}


@pytest.mark.parametrize("first", range(0, SCHEDULES, CHUNK))
async def test_each_schedule_ends_right_or_with_nothing_half_done(
    cloud: Cloud, tmp_path: Path, anyio_backend: str, first: int
) -> None:
    endings: list[str] = []
    limiter = anyio.CapacityLimiter(AT_ONCE)
    shift = 0 if anyio_backend == "asyncio" else SCHEDULES
    async with patient_client(cloud.placement_url, auth=an_administrator(cloud), read_timeout_s=30) as connected:
        client = connected.at(NEEDED)
        there = await a_provider(client)

        async def one(seed: int) -> None:
            directory = tmp_path / str(seed)
            directory.mkdir(mode=0o700)
            async with limiter, open_sqlite(directory / "store.sqlite") as store:
                endings.append(await Case(seed, cloud, client, there, directory, store).run())

        async with anyio.create_task_group() as group:
            for seed in range(first + shift, first + shift + CHUNK):
                group.start_soon(one, seed)
    # Were all of one kind, this would not have tested the other.
    assert set(endings) == {"69", "right"}


async def test_a_start_asks_few_questions_over_few_connections(cloud: Cloud, tmp_path: Path) -> None:
    async with patient_client(cloud.placement_url, auth=an_administrator(cloud)) as connected:
        here = await a_provider(connected.at(NEEDED))
    async with open_sqlite(tmp_path / "store.sqlite") as store:
        with a_proxy(cloud.auth_url.removesuffix("/v3")) as keystone, a_proxy(cloud.placement_url) as placement:
            to_cloud = Cloud(tmp_path, f"{keystone.url}/v3", placement.url)
            for _ in range(2):
                keystone.requests.clear()
                placement.requests.clear()
                keystone.connections = placement.connections = 0
                start = Start(settings(to_cloud, tmp_path, resource_provider=here.name), store)
                await start.run()
    assert start.reached == ["gate", "inventory", "allocations"]
    # On a machine that is busy it may knock more than once.
    assert {*keystone.requests[:-1]} == {"GET /v3"}
    assert keystone.requests[-1] == "POST /v3/auth/tokens"
    assert placement.requests == [
        f"GET /resource_providers?name={here.name}",
        f"GET /resource_providers/{here.uuid}/inventories",
        f"GET /resource_providers/{here.uuid}/traits",
        f"GET /resource_providers/{here.uuid}/allocations",
    ]
    probes = len(keystone.requests) - 1
    assert (keystone.connections, placement.connections) == (probes, 1)
