"""A PostgreSQL that takes no writes is away for a while: a standby, a failover, a server that was demoted."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import chain

import anyio
import anyio.to_thread
import psycopg
import pytest
from sqlalchemy import Connection
from structlog.testing import capture_logs

from bringup.daemon.decisions.states import TaskState, VmState
from bringup.daemon.errors import StoreUnavailable, Temporary, chain_of
from bringup.daemon.storage.store.base import Claimant
from bringup.daemon.storage.store.postgresql import open_database
from bringup.daemon.storage.store.sql import SqlStore
from support.moving_address import MovingAddress
from support.polling import reached
from support.postgresql import PASSWORD, USER, Server, a_server, a_standby, the_server
from support.records import HOST, expected, instance, records, uuid_of
from support.stores import postgresql_store

pytestmark = pytest.mark.anyio

MANY = 60


@pytest.fixture
def anyio_backend() -> str:
    """The database is spoken to in threads, which are the same on both."""
    return "asyncio"


@pytest.fixture
def primary() -> Iterator[Server]:
    server = a_server()
    yield server
    server.stop()


@pytest.fixture
def standby(primary: Server) -> Iterator[Server]:
    server = a_standby(primary)
    yield server
    server.stop()


@asynccontextmanager
async def opened(url: str, *, wait_s: float = 60) -> AsyncIterator[SqlStore]:
    store = await postgresql_store(url, wait_s=wait_s)
    try:
        yield store
    finally:
        await store.close()


async def set_task_state(store: SqlStore, number: int, task_state: TaskState | None) -> None:
    """Save it, whatever of the two it was."""
    either = expected(VmState.ACTIVE, task_states=(None, TaskState.REBOOTING))
    await store.save(uuid_of(number), {"task_state": task_state}, expected=either)


async def test_a_standby_is_waited_for_and_never_a_wrong_setting(primary: Server, standby: Server) -> None:
    url = primary.new_database()
    database = url.rpartition("/")[2]
    async with opened(url) as store:
        await store.import_records(records(instance(1)))
    await until_it_has_followed(standby, database)

    with pytest.raises(Temporary, match="cannot open the store") as raised, anyio.fail_after(60):
        await postgresql_store(standby.url(database), wait_s=0.3)

    assert raised.value.exit_code == 75
    assert "read-only" in chain_of(raised.value)


async def test_a_standby_that_is_promoted_in_time_is_opened(primary: Server, standby: Server) -> None:
    database = primary.new_database().rpartition("/")[2]
    async with opened(primary.url(database)) as store:
        await store.import_records(records(instance(1)))
    primary.stop()

    with anyio.fail_after(100):
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, standby.promote)
            async with opened(standby.url(database)) as store:
                assert await store.load_instances(HOST) == [instance(1)]
                await store.save(uuid_of(1), {"task_state": None}, expected=expected(VmState.ACTIVE))


async def test_a_server_that_is_read_only_for_a_while_costs_no_save(primary: Server) -> None:
    done, was_away = 0, anyio.Event()
    async with opened(primary.new_database()) as store:
        await store.import_records(records(*(instance(number) for number in range(1, MANY + 1))))

        async def save(number: int) -> None:
            nonlocal done
            # However slowly the server is switched: some saves reach it while it is read-only.
            for task_state in chain((TaskState.REBOOTING, None) * 2, not_away_yet(), (TaskState.REBOOTING,)):
                await set_task_state(store, number, task_state)
                done += 1

        def not_away_yet() -> Iterator[TaskState | None]:
            while not was_away.is_set():
                yield TaskState.REBOOTING
                yield None

        async def turn_read_only() -> None:
            while done < MANY:
                await anyio.lowlevel.checkpoint()
            await anyio.to_thread.run_sync(lambda: primary.only_read(only=True))
            while not any(each["event"] == "store.unavailable" for each in logged):
                await anyio.lowlevel.checkpoint()
            was_away.set()
            await anyio.to_thread.run_sync(lambda: primary.only_read(only=False))

        with capture_logs() as logged, anyio.fail_after(100):
            async with anyio.create_task_group() as group:
                group.start_soon(turn_read_only)
                for number in range(1, MANY + 1):
                    group.start_soon(save, number)
        assert done >= 5 * MANY
        assert {one.task_state for one in await store.load_instances(HOST)} == {TaskState.REBOOTING}


async def test_a_server_that_stays_read_only_is_a_store_that_is_unavailable(primary: Server) -> None:
    async with opened(primary.new_database(), wait_s=0.2) as store:
        await store.import_records(records(instance(1)))
        await anyio.to_thread.run_sync(lambda: primary.only_read(only=True))

        with pytest.raises(StoreUnavailable) as saved:
            await set_task_state(store, 1, None)
        # What a standby tells may be behind: nothing is decided on it.
        with pytest.raises(StoreUnavailable) as read:
            await store.load_instances(HOST)

        assert "read-only" in chain_of(saved.value)
        assert "read-only" in chain_of(read.value)


async def test_a_daemon_that_stays_does_not_stay_with_a_demoted_server(primary: Server, standby: Server) -> None:
    address = MovingAddress(primary.port)
    database = primary.new_database().rpartition("/")[2]
    url = f"postgresql://{USER}@127.0.0.1:{address.port}/{database}"
    claimant = Claimant(HOST, "node")
    try:
        async with opened(url) as store:
            await store.import_records(records(instance(1)))
            await store.take_lease(claimant, for_s=30)
            # A read and a write leave idle connections behind: all of them are to the server that is demoted now.
            await store.load_instances(HOST)
            await until_it_has_followed(standby, database)
            await anyio.to_thread.run_sync(standby.promote)
            await anyio.to_thread.run_sync(lambda: primary.only_read(only=True))
            address.target = standby.port

            with anyio.fail_after(60):
                await store.take_lease(claimant, for_s=30)
                await set_task_state(store, 1, TaskState.REBOOTING)
                [found] = await store.load_instances(HOST)
            assert found.task_state is TaskState.REBOOTING
    finally:
        address.close()
    async with opened(standby.url(database)) as store:
        assert (await store.get_instance(uuid_of(1))).task_state is TaskState.REBOOTING


async def until_it_has_followed(standby: Server, database: str) -> None:
    def has_it() -> bool:
        with suppress(psycopg.Error), standby.connect(database) as connection:
            return connection.execute("SELECT count(*) FROM instances").fetchone() == (1,)
        return False

    await reached(lambda: anyio.to_thread.run_sync(has_it), "the standby")


async def test_of_several_hosts_the_one_that_takes_writes_is_found_before_and_after_a_failover(
    primary: Server, standby: Server
) -> None:
    database = primary.new_database().rpartition("/")[2]
    url = f"postgresql://{USER}@127.0.0.1:{standby.port},127.0.0.1:{primary.port}/{database}"
    with anyio.fail_after(110):
        async with opened(url) as store:
            await store.import_records(records(instance(1)))
            await until_it_has_followed(standby, database)

            await anyio.to_thread.run_sync(primary.stop)
            await anyio.to_thread.run_sync(standby.promote)
            await set_task_state(store, 1, TaskState.REBOOTING)
            await anyio.to_thread.run_sync(lambda: primary.demote(standby))
            await set_task_state(store, 1, None)

            [found] = await store.load_instances(HOST)
            assert found.task_state is None


def test_who_ends_waits_no_more() -> None:
    server = a_server()
    database = open_database(server.new_database(), PASSWORD, 600)
    server.stop()
    failed: list[BaseException] = []

    def read() -> None:
        try:
            database.read(lambda connection: connection.exec_driver_sql("SELECT 1"))
        except Exception as error:  # noqa: BLE001 - checked below
            failed.append(error)

    waiting = threading.Thread(target=read)
    waiting.start()
    database.hurry()
    waiting.join(30)
    database.engine.dispose()
    assert not waiting.is_alive()
    assert len(failed) == 1


def test_what_is_being_asked_when_it_ends_is_cut_off_soon() -> None:
    database = open_database(the_server().new_database(), PASSWORD, 600)
    failed: list[BaseException] = []
    asked = threading.Event()

    def sleeps(connection: Connection) -> None:
        asked.set()
        connection.exec_driver_sql("SELECT pg_sleep(25)")

    def read() -> None:
        try:
            database.read(sleeps)
        except Exception as error:  # noqa: BLE001 - checked below
            failed.append(error)

    waiting = threading.Thread(target=read)
    waiting.start()
    assert asked.wait(30)
    database.hurry()
    waiting.join(15)
    assert not waiting.is_alive()
    assert len(failed) == 1
    database.engine.dispose()
