"""What only a PostgreSQL does: it is away for a while, cuts off commits, gives up one transaction for another."""

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from bringup.daemon.decisions.states import TaskState, VmState
from bringup.daemon.errors import SettingsError, StoreError, Temporary
from bringup.daemon.service.assembly import opened_own_store
from bringup.daemon.settings import load
from bringup.daemon.storage.store.base import Claimant
from bringup.daemon.storage.store.postgresql import open_database
from bringup.daemon.storage.store.sql import SqlStore
from support.postgresql import PASSWORD, Server, a_server, the_server
from support.records import HOST, expected, instance, records, uuid_of
from support.stores import postgresql_store

pytestmark = pytest.mark.anyio

MANY = 200


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of one's own: it is stopped."""
    own = a_server()
    yield own
    own.stop()


@pytest.fixture
async def store(server: Server) -> AsyncIterator[SqlStore]:
    opened = await postgresql_store(server.new_database(), wait_s=60)
    yield opened
    await opened.close()


async def save_each_in_turn(store: SqlStore, numbers: range, done: list[int]) -> None:
    """Save each record in two states in turn; a write made twice or lost would be a conflict."""
    for number in numbers:
        for before, after in ((None, TaskState.POWERING_ON), (TaskState.POWERING_ON, TaskState.REBOOTING)):
            await store.save(
                uuid_of(number), {"task_state": after}, expected=expected(VmState.ACTIVE, task_states=(before,))
            )
            done.append(number)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "crashed"])
async def test_a_server_that_goes_and_comes_back_loses_nothing_and_does_nothing_twice(
    server: Server, store: SqlStore, how: signal.Signals
) -> None:
    await store.import_records(records(*(instance(number) for number in range(1, MANY + 1))))
    done: list[int] = []

    async def server_goes_and_comes() -> None:
        for _ in range(3):
            wanted = len(done) + 20
            while len(done) < min(wanted, 2 * MANY):
                await anyio.lowlevel.checkpoint()
            await anyio.to_thread.run_sync(server.stop, how)
            await anyio.to_thread.run_sync(server.start)

    with anyio.fail_after(100):
        async with anyio.create_task_group() as group:
            for first in range(1, MANY + 1, 10):
                group.start_soon(save_each_in_turn, store, range(first, first + 10), done)
            group.start_soon(server_goes_and_comes)

    assert len(done) == 2 * MANY
    assert {one.task_state for one in await store.load_instances(HOST)} == {TaskState.REBOOTING}


async def test_connections_that_are_cut_off_at_any_moment_make_no_write_twice(server: Server, store: SqlStore) -> None:
    await store.import_records(records(*(instance(number) for number in range(1, MANY + 1))))
    done: list[int] = []

    async def cut_off() -> None:
        def kill() -> None:
            with server.connect("postgres") as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bringup'"
                )

        while len(done) < 2 * MANY:
            before = len(done)
            await anyio.to_thread.run_sync(kill)
            # A busy machine must get on in between.
            while len(done) < min(before + 5, 2 * MANY):
                await anyio.lowlevel.checkpoint()

    with anyio.fail_after(100):
        async with anyio.create_task_group() as group:
            group.start_soon(cut_off)
            for first in range(1, MANY + 1, 10):
                group.start_soon(save_each_in_turn, store, range(first, first + 10), done)
    assert {one.task_state for one in await store.load_instances(HOST)} == {TaskState.REBOOTING}


async def test_a_server_that_stays_away_is_an_error_after_a_while(server: Server) -> None:
    store = await postgresql_store(server.new_database(), wait_s=0.2)
    await store.import_records(records(instance(1)))
    await anyio.to_thread.run_sync(server.stop)
    try:
        with pytest.raises(StoreError, match="cannot read the instances"), anyio.fail_after(30):
            await store.load_instances(HOST)
        with pytest.raises(StoreError, match="cannot save"), anyio.fail_after(30):
            await store.save(uuid_of(1), {"task_state": None}, expected=expected(VmState.ACTIVE))
        with pytest.raises(Temporary, match="cannot open the store postgresql://"), anyio.fail_after(30):
            await postgresql_store(server.url("x"), wait_s=0)
    finally:
        await anyio.to_thread.run_sync(server.start)
        await store.close()


async def test_two_hosts_that_write_in_opposite_orders_both_get_through(server: Server) -> None:
    url = server.new_database()
    stores = [await postgresql_store(url) for _ in range(2)]
    await stores[0].import_records(records(*(instance(number) for number in range(1, 41))))
    won: list[int] = []

    async def take(store: SqlStore, numbers: list[int]) -> None:
        async def take_one(number: int) -> None:
            try:
                await store.save(
                    uuid_of(number), {"task_state": TaskState.REBOOTING}, expected=expected(VmState.ACTIVE)
                )
            except StoreError:
                return
            won.append(number)

        async with anyio.create_task_group() as group:
            for number in numbers:
                group.start_soon(take_one, number)

    numbers = list(range(1, 41))
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(take, stores[0], numbers)
            group.start_soon(take, stores[1], numbers[::-1])
    for store in stores:
        await store.close()
    assert sorted(won) == numbers, "each has one winner"


async def test_daemons_that_make_the_tables_at_once_do_not_hinder_each_other(server: Server) -> None:
    url = server.new_database()
    opened: list[SqlStore] = []

    async def open_it() -> None:
        opened.append(await postgresql_store(url))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(open_it)
    for number, store in enumerate(opened):
        await store.take_lease(Claimant(f"compute-{number}", "n"), for_s=1)
        await store.close()


def test_a_wrong_password_is_reported_without_any_password() -> None:
    url = the_server().new_database()
    with pytest.raises(SettingsError, match=r"store\.url: cannot open the store postgresql://bringup@") as raised:
        open_database(url, "wr0ng-secret", 30)
    told = f"{raised.value} {raised.value.__cause__}"
    assert "authentication failed" in told
    assert "wr0ng-secret" not in told


async def test_the_password_comes_from_its_file(tmp_path: Path) -> None:
    url = the_server().new_database()
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    overrides = [f"store.url={url}", f"store.password_file={tmp_path / 'password'}"]
    settings = load(None, environment={}, overrides=overrides)
    assert PASSWORD not in repr(settings)

    async with opened_own_store(settings) as store:
        await store.import_records(records(instance(1)))
        assert await store.load_instances(HOST) == [instance(1)]

    with pytest.raises(SettingsError, match=r"store\.password_file = \"/nowhere/at-all\" .*No such file"):
        load(None, environment={}, overrides=[*overrides, "store.password_file=/nowhere/at-all"])
