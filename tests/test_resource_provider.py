"""This host in the real Placement: what it has, and who has something of it that is not one of its instances."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from bringup.daemon.decisions.instances import Migration
from bringup.daemon.decisions.states import TaskState, VmState
from bringup.daemon.errors import Unavailable
from bringup.daemon.openstack.inventory_rules import InventoryRules
from bringup.daemon.openstack.resource_provider import HostProvider, KnownInstances
from bringup.daemon.storage.store.sql import SqlStore
from bringup.drivers.simulated import Scenario, SimulatedCapacity, SimulatedDriver
from bringup.placement.allocations import remove_allocation
from bringup.placement.client import PlacementClient
from bringup.placement.errors import NotUnderstood
from bringup.placement.microversions import Microversion
from bringup.placement.providers import ResourceProvider
from support.placed import Provider, a_provider, allocate, holders
from support.placement import a_client, a_peer, an_answer, nobody
from support.records import HOST, instance, records
from support.stores import open_sqlite

pytestmark = pytest.mark.anyio
ELSEWHERE = "compute-2"
DEADLINE_S = 60.0


@pytest.fixture
async def client() -> AsyncIterator[PlacementClient]:
    async with a_client() as made:
        yield made


@pytest.fixture
async def here(client: PlacementClient) -> Provider:
    return await a_provider(client)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    async with open_sqlite(tmp_path / "store.sqlite") as made:
        yield made


def placed(provider: Provider, **rules: object) -> HostProvider:
    return HostProvider(
        client=provider.client,
        provider=ResourceProvider(provider.uuid, provider.name, 0),
        rules=InventoryRules(**rules),  # type: ignore[arg-type]
        wait_s=10,
    )


async def a_driver(**capacity: object) -> SimulatedDriver:
    driver = SimulatedDriver(Scenario(capacity=SimulatedCapacity(**capacity)))  # type: ignore[arg-type]
    await driver.init_host(HOST)
    return driver


def a_uuid() -> str:
    return str(uuid.uuid4())


def evacuation(uid: str, **changes: str) -> Migration:
    facts: dict[str, Any] = {"migration_type": "evacuation", "status": "done"}
    facts |= {"source_compute": HOST, "dest_compute": ELSEWHERE}
    return Migration(uuid=a_uuid(), instance_uuid=uid, **(facts | changes))


def known(*own: str, **more: frozenset[str]) -> KnownInstances:
    return KnownInstances(own=frozenset(own), **more)


async def test_what_differs_is_reported_and_nothing_is_changed(client: PlacementClient) -> None:
    provider = await a_provider(client, with_room=False)
    lines = await placed(provider).differences(await a_driver(vcpus=4, memory_mb=8192, local_gb=50))
    assert lines == [
        "VCPU: none, should be total=4",
        "MEMORY_MB: none, should be total=8192",
        "DISK_GB: none, should be total=50",
        *(f"trait {name}: missing" for name in sorted({"COMPUTE_NODE", "OWNER_NOVA", *SimulatedCapacity().traits})),
    ]
    await placed(provider).update(await a_driver())
    assert await provider.generation() == 0


async def test_with_the_word_of_the_settings_it_is_corrected(client: PlacementClient) -> None:
    provider = await a_provider(client, with_room=False)
    rules = {"update": True, "reserved_host_memory_mb": 1024, "cpu_allocation_ratio": 2.0}
    driver = await a_driver(vcpus=4, memory_mb=8192, local_gb=50)
    await placed(provider, **rules).update(driver)
    found = await provider.inventories()
    assert (found["VCPU"]["allocation_ratio"], found["MEMORY_MB"]["reserved"]) == (2.0, 1024)
    assert {"COMPUTE_NODE", "OWNER_NOVA"} <= await provider.traits()
    assert await placed(provider, **rules).differences(driver) == []


async def test_a_driver_that_cannot_tell_leaves_the_inventory_alone(here: Provider) -> None:
    driver = await a_driver()
    before = await here.inventories()

    class Silent:
        async def get_available_resource(self) -> object:
            raise NotImplementedError

        async def capabilities_as_traits(self) -> object:
            raise NotImplementedError

    await placed(here, update=True).update(Silent())  # type: ignore[arg-type]
    assert await here.inventories() == before
    assert await here.traits() == {"COMPUTE_NODE", "OWNER_NOVA"}
    await driver.close()


async def test_an_inventory_that_cannot_be_corrected_ends_the_start() -> None:
    with nobody() as url:
        async with a_client(url) as away:
            host = HostProvider(
                client=away,
                provider=ResourceProvider(a_uuid(), "x", 0),
                rules=InventoryRules(update=True),
                wait_s=0,
            )
            with pytest.raises(Unavailable, match="no instance was touched"):
                await host.update(await a_driver())


async def test_what_was_evacuated_has_nothing_here_any_more_and_keeps_what_it_has_there(
    client: PlacementClient, here: Provider, store: SqlStore
) -> None:
    there, uid = await a_provider(client), a_uuid()
    await allocate(here.client, uid, here, there)
    await store.import_records(records(instance(1, uuid=uid, host=ELSEWHERE), migrations=(evacuation(uid),)))

    found = await placed(here).check_allocations(HOST, known(), store, deadline_s=DEADLINE_S)

    assert found.removed == (uid,)
    assert await holders(here.client, uid) == {there.uuid}
    again = await placed(here).check_allocations(HOST, known(), store, deadline_s=DEADLINE_S)
    assert again.removed == ()


@pytest.mark.parametrize(
    ("host", "migrations"),
    [
        (ELSEWHERE, [{"status": "accepted"}]),
        (ELSEWHERE, [{"status": "error"}]),
        (ELSEWHERE, []),
        (ELSEWHERE, [{}, {"migration_type": "migration", "status": "finished"}]),
        (HOST, [{}]),
    ],
    ids=["on its way", "given up", "for no reason we know", "and came back", "is ours"],
)
async def test_what_may_still_be_needed_here_is_left_alone(
    here: Provider, store: SqlStore, host: str, migrations: list[dict[str, str]]
) -> None:
    uid = a_uuid()
    await allocate(here.client, uid, here)
    made = tuple(evacuation(uid, **changes) for changes in migrations)
    await store.import_records(records(instance(1, uuid=uid, host=host), migrations=made))
    found = await placed(here).check_allocations(HOST, known(), store, deadline_s=DEADLINE_S)
    assert (found.removed, found.unknown) == ((), ())
    assert await holders(here.client, uid) == {here.uuid}


async def test_a_guest_that_could_not_be_destroyed_keeps_what_it_uses(here: Provider, store: SqlStore) -> None:
    uid = a_uuid()
    await allocate(here.client, uid, here)
    await store.import_records(records(instance(1, uuid=uid, host=ELSEWHERE), migrations=(evacuation(uid),)))
    still = known(still_here=frozenset({uid}))
    await placed(here).check_allocations(HOST, still, store, deadline_s=DEADLINE_S)
    assert await holders(here.client, uid) == {here.uuid}


async def test_what_this_run_has_deleted_has_nothing_any_more(here: Provider, store: SqlStore) -> None:
    uid = a_uuid()
    await allocate(here.client, uid, here)
    gone = known(deleted=frozenset({uid}))
    found = await placed(here).check_allocations(HOST, gone, store, deadline_s=DEADLINE_S)
    assert (found.removed, found.unknown) == ((uid,), ())
    assert await holders(here.client, uid) == set()


async def test_a_build_that_waited_for_its_claim_is_an_error(here: Provider, store: SqlStore) -> None:
    waiting, building, ours = a_uuid(), a_uuid(), a_uuid()
    for uid in (waiting, building, ours):
        await allocate(here.client, uid, here)
    states = {"vm_state": VmState.BUILDING, "task_state": TaskState.SCHEDULING}
    await store.import_records(
        records(
            instance(1, uuid=waiting, host=None, **states),
            instance(2, uuid=building, host=ELSEWHERE, **states),
            instance(3, uuid=ours, **states),
        )
    )
    found = await placed(here).check_allocations(HOST, known(ours), store, deadline_s=DEADLINE_S)
    assert found.set_to_error == (waiting,)
    left = {one.uuid: one for one in await store.load_instances_by_uuid([waiting, building, ours])}
    assert (left[waiting].vm_state, left[waiting].task_state) == (VmState.ERROR, None)
    assert {left[building].vm_state, left[ours].vm_state} == {VmState.BUILDING}


async def test_consumers_that_nobody_knows_are_reported_and_left_alone(here: Provider, store: SqlStore) -> None:
    stranger, moving = a_uuid(), a_uuid()
    migration = evacuation(a_uuid(), migration_type="migration", status="migrating")
    for uid in (stranger, migration.uuid):
        await allocate(here.client, uid, here)
    await store.import_records(records(instance(1, uuid=moving), migrations=(migration,)))
    with capture_logs() as logs:
        found = await placed(here).check_allocations(HOST, known(moving), store, deadline_s=DEADLINE_S)
    assert found.unknown == (stranger,)
    assert [line["consumers"] for line in logs if line["event"] == "allocations.orphaned"] == [[stranger]]
    assert await holders(here.client, stranger) == {here.uuid}


async def test_a_host_without_unknown_guests_asks_once(here: Provider, store: SqlStore) -> None:
    with a_peer(an_answer(content={"allocations": {"own": {}}})) as peer:
        async with a_client(peer.url) as asking:
            host = HostProvider(client=asking.at(Microversion(1, 28)), provider=ResourceProvider(here.uuid, "x", 0))
            await host.check_allocations(HOST, known("own"), store, deadline_s=DEADLINE_S)
    assert len(peer.requests) == 1


async def test_an_old_placement_has_no_consumer_generations_and_is_left_alone(here: Provider, store: SqlStore) -> None:
    uid = a_uuid()
    await allocate(here.client, uid, here)
    old = HostProvider(client=here.client.at(Microversion(1, 20)), provider=ResourceProvider(here.uuid, "x", 0))
    with capture_logs() as logs:
        found = await old.check_allocations(HOST, known(), store, deadline_s=DEADLINE_S)
    assert found.unknown == ()
    assert logs[0]["needed"] == "1.28"


async def test_a_placement_that_goes_away_then_keeps_nobody_down(store: SqlStore) -> None:
    with nobody() as url, capture_logs() as logs:
        async with a_client(url) as away:
            host = HostProvider(client=away.at(Microversion(1, 28)), provider=ResourceProvider(a_uuid(), "x", 0))
            await host.check_allocations(HOST, known(), store, deadline_s=1.0)
    assert logs[-1]["event"] == "allocations.not_checked"
    assert "connection refused" in logs[-1]["error"]


async def test_two_who_take_back_at_once_both_find_it_done(client: PlacementClient, here: Provider) -> None:
    there, uid = await a_provider(client), a_uuid()
    await allocate(here.client, uid, here, there)
    async with anyio.create_task_group() as group:
        for _ in range(4):

            async def take() -> None:
                await remove_allocation(here.client, uid, here.uuid, wait_s=30)

            group.start_soon(take)
    assert await holders(here.client, uid) == {there.uuid}


async def test_a_consumer_that_is_none_is_not_understood() -> None:
    with a_peer(an_answer(content={"allocations": {"x": {}}})) as peer:
        async with a_client(peer.url) as asking:
            with pytest.raises(NotUnderstood, match="described a consumer without its allocations"):
                await remove_allocation(asking, "y", "x", wait_s=0)
