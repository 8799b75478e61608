"""What every store must do, whatever it keeps its records in.  A new store is one more entry of STORES."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, given, settings

from bringup.daemon.decisions.instances import Changes
from bringup.daemon.decisions.states import PowerState, TaskState, UnknownState, VmState
from bringup.daemon.errors import RecordNotFound, StateConflict, StoreError
from bringup.daemon.storage.record_files import Records
from bringup.daemon.storage.store.base import ImportingStore, ImportResult
from support.records import ANY_TASK, HOST, expected, files_of_records, instance, migration, records, uuid_of
from support.stores import STORES, Open

pytestmark = pytest.mark.anyio


@pytest.fixture(params=list(STORES.values()), ids=list(STORES))
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    return lambda: request.param(tmp_path)


@pytest.fixture
async def store(open_store: Open) -> AsyncIterator[ImportingStore]:
    opened = await open_store()
    yield opened
    await opened.close()


async def test_a_deleted_row_is_read_when_it_is_asked_for(store: ImportingStore) -> None:
    await store.import_records(records(instance(1), instance(2)))
    await store.destroy(uuid_of(1))

    assert await store.load_deleted([uuid_of(1), uuid_of(2), uuid_of(3)]) == [instance(1)]
    assert await store.load_instances_by_uuid([uuid_of(1)]) == []


async def test_all_migrations_of_some_instances_from_or_to_a_host_come_oldest_first(store: ImportingStore) -> None:
    came = migration(1, source_compute="compute-7", dest_compute=HOST, status="completed")
    went = migration(2, migration_type="resize", status="finished")
    others = [migration(3), migration(4, source_compute="compute-7", dest_compute="compute-8")]
    await store.import_records(records(migrations=(went, came, *others)))

    found = await store.load_migrations_of(HOST, [uuid_of(1), uuid_of(2), uuid_of(4)])

    assert found == [went, came]
    assert await store.load_migrations_of(HOST, []) == []


async def test_an_instance_comes_back_whole(store: ImportingStore) -> None:
    await store.import_records(records(instance(1)))

    assert await store.load_instances(HOST) == [instance(1)]
    assert await store.get_instance(uuid_of(1)) == instance(1)
    assert await store.load_instances_by_uuid([uuid_of(1)]) == [instance(1)]


@given(found=files_of_records)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_record_comes_back_as_it_was(store: ImportingStore, found: Records) -> None:
    await store.import_records(found)

    loaded = await store.load_instances_by_uuid([one.uuid for one in found.instances])

    assert loaded == sorted(found.instances, key=lambda one: one.uuid)


async def test_only_the_instances_of_the_host_are_loaded_in_the_order_of_their_uuids(store: ImportingStore) -> None:
    await store.import_records(records(instance(3), instance(2, host="other"), instance(1), instance(4, host=None)))

    assert [one.uuid for one in await store.load_instances(HOST)] == [uuid_of(1), uuid_of(3)]


async def test_the_uuids_of_a_host_are_those_of_its_instances_that_are_not_deleted_in_their_order(
    store: ImportingStore,
) -> None:
    half_deleted = instance(5, vm_state=VmState.DELETED)
    elsewhere = (instance(2, host="other"), instance(4, host=None))
    await store.import_records(records(instance(3), *elsewhere, instance(1), instance(6), half_deleted))
    await store.destroy(uuid_of(6))

    assert await store.list_uuids(HOST) == [uuid_of(1), uuid_of(3), uuid_of(5)]
    assert await store.list_uuids("nobody") == []


async def test_more_instances_than_fit_in_one_statement_are_loaded(store: ImportingStore) -> None:
    many = [instance(number) for number in range(1200)]
    await store.import_records(records(*many))

    assert await store.load_instances_by_uuid([one.uuid for one in many]) == many


async def test_a_half_deleted_row_is_loaded_and_a_deleted_one_is_not(store: ImportingStore) -> None:
    await store.import_records(records(instance(1, vm_state=VmState.DELETED), instance(2)))

    await store.destroy(uuid_of(2))

    assert [one.uuid for one in await store.load_instances(HOST)] == [uuid_of(1)]
    assert await store.load_instances_by_uuid([uuid_of(2)]) == []
    with pytest.raises(RecordNotFound, match=uuid_of(2)):
        await store.get_instance(uuid_of(2))


async def test_a_record_that_is_gone_can_be_neither_saved_nor_destroyed(store: ImportingStore) -> None:
    await store.import_records(records(instance(1)))
    await store.destroy(uuid_of(1))

    for number in (1, 2):
        with pytest.raises(RecordNotFound, match=f"cannot save instance {uuid_of(number)}"):
            await store.save(uuid_of(number), {}, expected=expected(VmState.ACTIVE))
        with pytest.raises(RecordNotFound, match=f"cannot destroy instance {uuid_of(number)}"):
            await store.destroy(uuid_of(number))


CHANGES: dict[str, Changes] = {
    "vm_state": {"vm_state": VmState.STOPPED},
    "task_state": {"task_state": TaskState.REBOOTING},
    "no task_state": {"task_state": None},
    "power_state": {"power_state": PowerState.SHUTDOWN},
    "terminated_at": {"terminated_at": "2026-11-23T22:42:00Z"},
    "system_metadata": {"system_metadata": {"only": "this", "and": "that"}},
    "no system_metadata": {"system_metadata": {}},
    "nothing": {},
    "all": {
        "vm_state": VmState.ERROR,
        "task_state": None,
        "power_state": PowerState.NOSTATE,
        "terminated_at": "now",
        "system_metadata": {"a": "b"},
    },
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
async def test_a_save_writes_what_it_names_and_nothing_else(open_store: Open, changes: Changes) -> None:
    before = {"task_state": TaskState.POWERING_ON}
    store = await open_store()
    await store.import_records(records(instance(1, **before), instance(2)))

    await store.save(uuid_of(1), changes, expected=expected(VmState.ACTIVE, task_states=(TaskState.POWERING_ON,)))

    await store.close()
    again = await open_store()
    assert await again.load_instances(HOST) == [instance(1, **(before | dict(changes))), instance(2)]
    await again.close()


CONFLICTS = {
    "another vm_state": (expected(VmState.STOPPED, task_states=ANY_TASK), False),
    "another task_state": (expected(VmState.ACTIVE, task_states=(TaskState.SPAWNING,)), False),
    "a task_state where there is none": (expected(VmState.ACTIVE, task_states=(TaskState.PAUSING,)), False),
    "nothing is expected": (expected(), False),
    "one of several": (expected(VmState.STOPPED, VmState.ACTIVE, task_states=(TaskState.PAUSING, None)), True),
    "none where there is none": (expected(VmState.ACTIVE), True),
}


@pytest.mark.parametrize(("states", "made"), CONFLICTS.values(), ids=CONFLICTS)
async def test_a_save_is_made_only_in_an_expected_state(store: ImportingStore, states: Any, made: bool) -> None:  # noqa: FBT001 - a column of the table
    await store.import_records(records(instance(1)))

    if made:
        await store.save(uuid_of(1), {"task_state": TaskState.PAUSING}, expected=states)
        assert (await store.get_instance(uuid_of(1))).task_state is TaskState.PAUSING
        return
    with pytest.raises(StateConflict, match=rf"{uuid_of(1)}: it has vm_state active and task_state none, expected"):
        await store.save(uuid_of(1), {"task_state": TaskState.PAUSING}, expected=states)
    assert await store.get_instance(uuid_of(1)) == instance(1)


async def test_states_that_are_not_known_can_be_expected(store: ImportingStore) -> None:
    unknown, busy = UnknownState("hibernated"), UnknownState("dreaming")
    await store.import_records(records(instance(1, vm_state=unknown, task_state=busy)))

    with pytest.raises(StateConflict, match="vm_state hibernated and task_state dreaming"):
        await store.save(uuid_of(1), {}, expected=expected(UnknownState("other"), task_states=(busy,)))
    await store.save(uuid_of(1), {"vm_state": VmState.ERROR}, expected=expected(unknown, task_states=(busy,)))

    assert await store.load_instances(HOST) == [instance(1, vm_state=VmState.ERROR, task_state=busy)]


async def test_an_uuid_is_found_in_any_spelling_of_its_letters(store: ImportingStore) -> None:
    name = str(uuid.UUID(int=0xABCDEF))
    await store.import_records(records(instance(1, uuid=name.upper())))

    await store.save(name.upper(), {"vm_state": VmState.ERROR}, expected=expected(VmState.ACTIVE))

    assert (await store.get_instance(name.upper())).uuid == name
    assert [one.uuid for one in await store.load_instances_by_uuid([name.upper(), name])] == [name]


async def test_of_saves_that_expect_the_same_state_one_is_made(open_store: Open) -> None:
    stores = [await open_store(), await open_store()]
    await stores[0].import_records(records(*(instance(number) for number in range(20))))
    won: list[str] = []
    lost: list[str] = []

    async def take(store: ImportingStore, name: str) -> None:
        try:
            await store.save(name, {"task_state": TaskState.REBOOTING}, expected=expected(VmState.ACTIVE))
            won.append(name)
        except StateConflict:
            lost.append(name)

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            for store in stores * 2:
                tasks.start_soon(take, store, uuid_of(number))

    assert sorted(won) == [uuid_of(number) for number in range(20)]
    assert len(lost) == 60
    for store in stores:
        await store.close()


async def test_a_conflict_does_not_stop_the_saves_beside_it(store: ImportingStore) -> None:
    await store.import_records(records(*(instance(number) for number in range(30))))
    refused: list[str] = []

    async def save(number: int) -> None:
        wanted = VmState.ACTIVE if number % 3 else VmState.STOPPED
        try:
            await store.save(uuid_of(number), {"power_state": PowerState.PAUSED}, expected=expected(wanted))
        except StateConflict:
            refused.append(uuid_of(number))

    async with anyio.create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(save, number)

    unchanged = [one.uuid for one in await store.load_instances(HOST) if one.power_state is PowerState.RUNNING]
    assert sorted(refused) == unchanged == [uuid_of(number) for number in range(0, 30, 3)]


async def test_a_value_that_cannot_be_written_fails_its_own_save_only(store: ImportingStore) -> None:
    await store.import_records(records(instance(1), instance(2)))

    async def save_what_cannot_be() -> None:
        with pytest.raises(StoreError, match=f"cannot save {uuid_of(1)}"):
            await store.save(uuid_of(1), {"system_metadata": {"a": "\ud800"}}, expected=expected(VmState.ACTIVE))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(save_what_cannot_be)
        tasks.start_soon(lambda: store.save(uuid_of(2), {"vm_state": VmState.ERROR}, expected=expected(VmState.ACTIVE)))

    assert [one.vm_state for one in await store.load_instances(HOST)] == [VmState.ACTIVE, VmState.ERROR]


async def test_importing_again_updates_what_is_there_and_adds_what_is_new(store: ImportingStore) -> None:
    await store.import_records(records(instance(1), instance(2), instance(3), migrations=(migration(1),)))
    await store.destroy(uuid_of(3))
    bare = instance(1, display_name="renamed", metadata={}, system_metadata={}, network_info=(), block_devices=())

    result = await store.import_records(
        records(bare, instance(3), instance(4), migrations=(migration(1, status="completed"), migration(2)))
    )

    assert result == ImportResult(added=2, updated=1, migrations_added=1, migrations_updated=1)
    assert await store.load_instances(HOST) == [bare, instance(2), instance(3), instance(4)]
    assert await store.load_migrations(HOST, ["done", "completed"]) == [
        migration(1, status="completed"),
        migration(2),
    ]


async def test_an_import_that_fails_stores_nothing(store: ImportingStore) -> None:
    await store.import_records(records(instance(1)))

    with pytest.raises(StoreError, match="cannot import"):
        await store.import_records(records(instance(1, display_name="renamed"), instance(2), instance(2)))

    assert await store.load_instances(HOST) == [instance(1)]


async def test_migrations_of_the_host_in_the_statuses_come_oldest_first(store: ImportingStore) -> None:
    mine = (migration(9), migration(5, status="accepted"), migration(7, dest_compute=None))
    others = (migration(1, source_compute="other"), migration(2, status="error"))
    await store.import_records(records(migrations=(*others, *mine)))

    assert await store.load_migrations(HOST, {"accepted", "done"}) == list(mine)
    assert await store.load_migrations(HOST, ()) == []


async def test_the_status_of_a_migration_is_saved(store: ImportingStore) -> None:
    await store.import_records(records(migrations=(migration(1), migration(2))))

    await store.save_migration(migration(1).uuid.upper(), status="completed")

    assert await store.load_migrations(HOST, ["completed"]) == [migration(1, status="completed")]
    with pytest.raises(RecordNotFound, match=f"cannot save migration {uuid_of(5)}"):
        await store.save_migration(uuid_of(5), status="completed")


async def test_a_save_and_a_destroy_of_one_record_are_made_in_their_order(store: ImportingStore) -> None:
    await store.import_records(records(instance(1)))
    heard: list[str] = []

    async def save() -> None:
        try:
            await store.save(uuid_of(1), {"vm_state": VmState.DELETED}, expected=expected(VmState.ACTIVE))
        except RecordNotFound:
            heard.append("gone")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.destroy, uuid_of(1))
        await anyio.lowlevel.checkpoint()
        tasks.start_soon(save)

    assert heard == ["gone"]
    assert await store.load_instances(HOST) == []


async def test_closing_finishes_what_was_handed_over(open_store: Open) -> None:
    store = await open_store()
    await store.import_records(records(*(instance(number) for number in range(10))))

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(
                lambda name: store.save(name, {"vm_state": VmState.ERROR}, expected=expected(VmState.ACTIVE)),
                uuid_of(number),
            )
        await anyio.wait_all_tasks_blocked()
        await store.close()
    again = await open_store()

    assert {one.vm_state for one in await again.load_instances(HOST)} == {VmState.ERROR}
    await again.close()


async def test_a_closed_store_reports_it(open_store: Open) -> None:
    store = await open_store()
    await store.close()

    with pytest.raises(StoreError, match="it is closed"):
        await store.save(uuid_of(1), {}, expected=expected(VmState.ACTIVE))
    with pytest.raises(StoreError, match="it is closed"):
        await store.load_instances(HOST)
