from collections.abc import Awaitable, Callable

import pytest

from bringup.daemon.cli.file_store import FileStore
from bringup.daemon.decisions.states import VmState
from bringup.daemon.errors import RecordNotFound, StoreError
from bringup.daemon.storage.store.base import Store
from support.records import HOST, expected, instance, migration, records, uuid_of

pytestmark = pytest.mark.anyio

RECORDS = records(
    instance(2), instance(1), instance(3, host="compute-2"), migrations=(migration(3), migration(1, status="error"))
)


async def test_file_is_read_as_a_store() -> None:
    store: Store = FileStore(RECORDS)

    assert await store.load_instances(HOST) == [instance(1), instance(2)]
    assert await store.load_instances_by_uuid([uuid_of(3), uuid_of(9)]) == [instance(3, host="compute-2")]
    assert await store.get_instance(uuid_of(2)) == instance(2)
    assert await store.load_migrations(HOST, ["done"]) == [migration(3)]
    assert await store.load_migrations("compute-2", ["done"]) == []
    await store.close()


async def test_missing_instance_is_not_found() -> None:
    with pytest.raises(RecordNotFound, match=uuid_of(9)):
        await FileStore(RECORDS).get_instance(uuid_of(9))


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.save(uuid_of(1), {"task_state": None}, expected=expected(VmState.ACTIVE)),
        lambda store: store.destroy(uuid_of(1)),
        lambda store: store.save_migration(uuid_of(1), status="done"),
    ],
    ids=["save", "destroy", "save_migration"],
)
async def test_nothing_can_be_written(write: Callable[[Store], Awaitable[None]]) -> None:
    with pytest.raises(StoreError, match="read-only"):
        await write(FileStore(RECORDS))
