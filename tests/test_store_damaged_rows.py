"""Rows of our own tables that a hand or a disk has spoiled: each is the outcome of its own instance, and no other's."""

# ruff: noqa: S608 - the statements are made of constants of this file

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DataError, ProgrammingError

from bringup.daemon.decisions.instances import UNREADABLE, Instance, UnreadableInstance
from bringup.daemon.decisions.resume_policy import Resuming
from bringup.daemon.decisions.states import VmState
from bringup.daemon.errors import RecordNotFound, StoreError
from bringup.daemon.recovery.load_records import load_records
from bringup.daemon.storage.store.base import Claimant
from bringup.daemon.storage.store.database_url import parse_database_url
from bringup.daemon.storage.store.postgresql import Tls, connect_args
from support.computer import a_computer
from support.hosts import IN_MEMORY
from support.postgresql import PASSWORD
from support.records import ANY_TASK, HOST, expected, instance, migration, records, uuid_of
from support.stores import STORES, open_sqlite

pytestmark = pytest.mark.anyio

GOOD, BAD = uuid_of(1), uuid_of(2)
ACTIVE = expected(VmState.ACTIVE, task_states=ANY_TASK)
NO_TEXT = "cast(x'61ff80' AS TEXT)"
DEEP = "replace(printf('%.60000c', '['), ' ', '[')"
LEVELS = "'" + '{"a":' * 60 + "1" + "}" * 60 + "'"
COLUMNS = ("vm_state", "task_state", "node", "name", "display_name", "project_id", "user_id", "terminated_at", "flavor")
SPOILED = {
    **{f"{column} = {value}": f"UPDATE instances SET {column} = {value} WHERE uuid = '{BAD}'"
       for column in COLUMNS for value in ("x'61'", NO_TEXT)},
    **{f"power_state = {value}": f"UPDATE instances SET power_state = {value} WHERE uuid = '{BAD}'"
       for value in ("'running'", "x'01'", "1.5", "4294967296", NO_TEXT)},
    **{f"shutdown_terminate = {value}": f"UPDATE instances SET shutdown_terminate = {value} WHERE uuid = '{BAD}'"
       for value in ("'true'", "2", "-1", "x'00'", "0.5")},
    **{f"flavor is {value[:20]}": f"UPDATE instances SET flavor = {value} WHERE uuid = '{BAD}'"
       for value in ("'garbage'", "'[]'", "'7'", DEEP, LEVELS)},
    **{f"network_info = {value[:30]}": f"UPDATE instance_info_caches SET network_info = {value} "
       f"WHERE instance_uuid = '{BAD}'"
       for value in ("'garbage'", "'null'", "'[1]'", "'{}'", "7", DEEP, "'[{\"devname\": \"\\ud800\"}]'", NO_TEXT)},
    **{f"{table} {value}": f"UPDATE {table} SET value = {value} WHERE instance_uuid = '{BAD}'"
       for table in ("instance_metadata", "instance_system_metadata") for value in ("x'61'", NO_TEXT)},
    **{f"device = {value}": f"UPDATE block_device_mapping SET device = {value} WHERE instance_uuid = '{BAD}'"
       for value in ("'garbage'", "'[1]'", "7", NO_TEXT, "'{}, 1'")},
}  # fmt: skip


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        yield Path(folder)


@pytest.fixture
def anyio_backend() -> str:
    """The file is used in threads, which are the same on both."""
    return "asyncio"


def spoil(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        assert database.execute(statement).rowcount > 0
        database.commit()


async def a_store_of_two(path: Path) -> None:
    async with open_sqlite(path) as store:
        await store.import_records(records(instance(1), instance(2)))


@pytest.mark.parametrize("name", SPOILED)
async def test_a_row_that_cannot_be_right_fails_its_own_instance_and_no_other(directory: Path, name: str) -> None:
    path = directory / "store.sqlite"
    await a_store_of_two(path)
    spoil(path, SPOILED[name])
    async with open_sqlite(path) as store:
        for found in (await store.load_instances(HOST), await store.load_instances_by_uuid([GOOD, BAD])):
            assert {each.uuid: type(each) for each in found} == {GOOD: Instance, BAD: UnreadableInstance}
            repr(found).encode()
        assert (await store.get_instance(GOOD)).uuid == GOOD
        with pytest.raises(StoreError, match=f"cannot read instance {BAD}: its row in the store") as raised:
            await store.get_instance(BAD)
        assert not isinstance(raised.value, RecordNotFound)
        # Spoiled since it was read: nothing is started on a guess.
        claimant = Claimant(HOST, "holder")
        await store.take_lease(claimant, for_s=60)
        with pytest.raises(StoreError):
            await store.begin_start(BAD, claimant, expected=ACTIVE, reverting=False)


@pytest.mark.parametrize("name", ["../victim", "*", "", f"{{{BAD}}}", BAD.replace("-", ""), f'{BAD}" ; flush #'])
async def test_what_is_no_canonical_uuid_never_becomes_one_of_ours(directory: Path, name: str) -> None:
    path = directory / "store.sqlite"
    await a_store_of_two(path)
    spoil(path, "UPDATE instances SET uuid = '{}' WHERE uuid = '{}'".format(name.replace("'", "''"), BAD))
    async with open_sqlite(path) as store:
        found = await store.load_instances(HOST)
    [unknown] = [each for each in found if isinstance(each, UnreadableInstance)]
    assert len(found) == 2
    assert unknown.uuid not in {GOOD, BAD}


async def test_a_migration_that_cannot_be_read_keeps_its_own_instance_from_being_started(directory: Path) -> None:
    path = directory / "store.sqlite"
    async with open_sqlite(path) as store:
        moves = (migration(2, migration_type="resize", status="running"), migration(3, status="done"))
        await store.import_records(records(instance(1), instance(2), migrations=moves))
    spoil(path, f"UPDATE migrations SET dest_compute = x'ff' WHERE instance_uuid = '{BAD}'")
    spoil(path, f"UPDATE migrations SET instance_uuid = '../x' WHERE instance_uuid = '{uuid_of(3)}'")
    async with open_sqlite(path) as store:
        [found] = await store.load_migrations(HOST, ["running", "done"])
        assert (found.instance_uuid, found.migration_type) == (BAD, UNREADABLE)
        loaded = await load_records(store, HOST, local=frozenset({GOOD, BAD}), resuming=Resuming(), deadline_s=30)
    assert {each.instance.uuid: type(each.instance) for each in loaded.own} == {
        GOOD: Instance,
        BAD: UnreadableInstance,
    }


async def test_the_same_holds_for_a_row_in_postgresql(directory: Path) -> None:
    store = await STORES["postgresql"](directory)
    await store.import_records(records(instance(1), instance(2)))
    arguments = connect_args(parse_database_url((directory / "url").read_text()), PASSWORD, Tls())
    engine = create_engine("postgresql+psycopg://", connect_args=arguments)
    for statement in (
        f"UPDATE instances SET flavor = '[' WHERE uuid = '{BAD}'",
        f"UPDATE instances SET flavor = repeat('[', 60000) WHERE uuid = '{BAD}'",
        f"UPDATE instance_info_caches SET network_info = '[1]' WHERE instance_uuid = '{BAD}'",
        f"UPDATE block_device_mapping SET device = 'garbage' WHERE instance_uuid = '{BAD}'",
    ):
        with engine.begin() as connection:
            connection.execute(text(statement))
        found = await store.load_instances(HOST)
        assert {each.uuid: type(each) for each in found} == {GOOD: Instance, BAD: UnreadableInstance}
        await store.import_records(records(instance(2)))
    # Its types are PostgreSQL's own to keep.
    with pytest.raises((DataError, ProgrammingError)), engine.begin() as connection:
        connection.execute(text("UPDATE instances SET shutdown_terminate = 2"))
    engine.dispose()
    await store.close()


def test_in_a_run_it_is_failed_with_what_to_do_and_the_others_are_initialized(directory: Path) -> None:
    both = [instance(1), instance(2)]
    computer = a_computer(directory).guests(both).records(both)
    spoil(computer.store, f"UPDATE instances SET name = {NO_TEXT} WHERE uuid = '{BAD}'")

    ended = computer.run()

    assert (ended.code, ended.outcomes) == (0, {GOOD: "initialized", BAD: "failed"})
    assert "its name is not text in UTF-8" in ended.out
    assert "bringup import" in ended.out
