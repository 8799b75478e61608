"""Many tasks at once, through a nova-conductor with many threads and a database with many writers."""

import functools
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from bringup.daemon.decisions.instances import Expected
from bringup.daemon.decisions.migrating import AWAY_STATUSES
from bringup.daemon.decisions.states import TaskState, VmState
from bringup.daemon.errors import RecordNotFound, StateConflict
from bringup.daemon.openstack.conductor import NovaConductorStore
from bringup.daemon.openstack.rpc.client import open_rpc
from bringup.daemon.storage.store.base import Claimant
from support.mariadb import a_mariadb
from support.nova import Nova, a_nova
from support.openstack import uuid_of
from support.rabbitmq import the_rabbitmq
from support.records import expected

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

INSTANCES = 60
RACERS = 3
AT_ONCE = 32
# What an instance goes through: a save that were made twice would find another state than it expects.
STEPS = (None, TaskState.REBOOTING, TaskState.REBOOT_STARTED, TaskState.POWERING_OFF, TaskState.POWERING_ON)


@pytest.fixture
def anyio_backend() -> str:
    """aio-pika knows asyncio alone."""
    return "asyncio"


@functools.cache
def the_busy_nova() -> Nova:
    broker = the_rabbitmq()
    return a_nova(broker, database=a_mariadb().url, virtual_host=broker.new_virtual_host())


@dataclass
class Cloud:
    nova: Nova
    store: NovaConductorStore
    claimant: Claimant
    uuids: list[str]

    @property
    def host(self) -> str:
        return self.claimant.host


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    nova = the_busy_nova()
    host, node = nova.a_host()
    uuids = [uuid_of(host, number) for number in range(INSTANCES)]
    nova.make(*({"uuid": uuid, "host": host, "vm_state": "active", "power_state": 1} for uuid in uuids))
    async with open_rpc(nova.broker_settings(), in_flight=AT_ONCE, deadline_s=120) as rpc:
        store = NovaConductorStore(rpc)
        yield Cloud(nova, store, Claimant(host, node), uuids)
        await store.close()


def in_step(state: TaskState | None) -> Expected:
    return expected(VmState.ACTIVE, task_states=(state,))


async def at_once(*calls: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(call)


async def test_of_many_that_expect_the_same_state_one_is_saved_and_the_others_are_reported(cloud: Cloud) -> None:
    won: dict[tuple[str, int], list[int]] = {}
    told: Counter[tuple[str, int]] = Counter()

    async def race(uuid: str, step: int, racer: int) -> None:
        changes = {"task_state": STEPS[step], "system_metadata": {"saved_by": str(racer)}}
        try:
            await cloud.store.save(uuid, changes, expected=in_step(STEPS[step - 1]))  # type: ignore[arg-type]
        except StateConflict:
            told[uuid, step] += 1
        else:
            won.setdefault((uuid, step), []).append(racer)

    for step in range(1, len(STEPS)):
        racers = range(step * RACERS, (step + 1) * RACERS)
        await at_once(*(functools.partial(race, uuid, step, racer) for racer in racers for uuid in cloud.uuids))

    races = {(uuid, step) for uuid in cloud.uuids for step in range(1, len(STEPS))}
    assert {race: len(winners) for race, winners in won.items()} == dict.fromkeys(races, 1)
    assert told == dict.fromkeys(races, RACERS - 1)
    last = len(STEPS) - 1
    found = cloud.nova.read(cloud.uuids)
    assert {uuid: row["system_metadata"] for uuid, row in found.items()} == {
        uuid: {"saved_by": str(won[uuid, last][0])} for uuid in cloud.uuids
    }


async def test_saves_claims_and_reads_at_once_are_each_made(cloud: Cloud) -> None:
    moves = [
        {
            "uuid": uuid_of(cloud.host, 10_000 + number),
            "instance_uuid": uuid,
            "migration_type": "evacuation",
            "status": "done",
            "source_compute": cloud.host,
            "dest_compute": "compute-2",
        }
        for number, uuid in enumerate(cloud.uuids)
    ]
    cloud.nova.make(migrations=moves)

    async def through_its_states(uuid: str) -> None:
        for before, after in itertools.pairwise(STEPS):
            await cloud.store.begin_start(uuid, cloud.claimant, expected=in_step(before), reverting=False)
            await cloud.store.save(uuid, {"task_state": after}, expected=in_step(before))
            await cloud.store.end_start(uuid, cloud.claimant, reverting=False)
            assert (await cloud.store.get_instance(uuid)).task_state is after

    async def finish(move: dict[str, Any]) -> None:
        await cloud.store.save_migration(move["uuid"], status="completed")

    async def read_all() -> None:
        await cloud.store.take_lease(cloud.claimant, for_s=1)
        assert [each.uuid for each in await cloud.store.load_instances(cloud.host)] == sorted(cloud.uuids)
        assert await cloud.store.load_migrations(cloud.host, AWAY_STATUSES) == []

    await at_once(
        *(functools.partial(through_its_states, uuid) for uuid in cloud.uuids),
        *(functools.partial(finish, move) for move in moves),
        *[read_all] * 8,
    )

    found = cloud.nova.read(cloud.uuids)
    assert {uuid: row["task_state"] for uuid, row in found.items()} == dict.fromkeys(cloud.uuids, "powering-on")
    assert {cloud.nova.ask("migration_status", uuid=move["uuid"]) for move in moves} == {"completed"}


async def test_what_is_destroyed_and_saved_at_once_is_destroyed_once(cloud: Cloud) -> None:
    destroyed: Counter[str] = Counter()
    saved: set[str] = set()

    async def destroy(uuid: str) -> None:
        try:
            await cloud.store.destroy(uuid)
        except RecordNotFound:
            return
        destroyed[uuid] += 1

    async def save(uuid: str) -> None:
        try:
            await cloud.store.save(uuid, {"task_state": TaskState.REBOOTING}, expected=in_step(None))
        except RecordNotFound:
            return
        saved.add(uuid)

    await at_once(*(functools.partial(call, uuid) for uuid in cloud.uuids for call in (destroy, save, destroy)))

    assert destroyed == dict.fromkeys(cloud.uuids, 1)
    found = cloud.nova.read(cloud.uuids)
    assert all(row["deleted"] for row in found.values())
    assert {uuid for uuid, row in found.items() if row["task_state"] == "rebooting"} == saved
    assert await cloud.store.list_uuids(cloud.host) == []
