"""A PgBouncer before PostgreSQL: what it leaves of a session is enough, or it is said that it is not."""

from collections.abc import Iterator

import anyio
import anyio.to_thread
import psycopg
import pytest

from bringup.daemon.decisions.states import TaskState, VmState
from bringup.daemon.errors import SettingsError
from bringup.daemon.storage.store.base import Claimant
from bringup.daemon.storage.store.sql import SqlStore
from support.pgbouncer import a_pgbouncer
from support.postgresql import PASSWORD, USER, Server, a_server
from support.records import HOST, expected, instance, records, uuid_of
from support.stores import postgresql_store

pytestmark = pytest.mark.anyio

MANY = 120


@pytest.fixture
def anyio_backend() -> str:
    """The database is spoken to in threads, which are the same on both."""
    return "asyncio"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    own = a_server()
    yield own
    own.stop()


def through(port: int, server: Server) -> str:
    database = server.new_database().rpartition("/")[2]
    return f"postgresql://{USER}@127.0.0.1:{port}/{database}"


@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_many_saves_of_two_daemons_get_through_few_connections(server: Server, mode: str) -> None:
    # In a session a connection is kept for as long as the client has it: one for reads, one for writes, each daemon.
    connections = 2 if mode == "transaction" else 8
    with a_pgbouncer(server, mode, connections=connections) as port:
        url = through(port, server)
        with anyio.fail_after(100):
            stores = [await postgresql_store(url) for _ in range(2)]
            await stores[0].import_records(records(*(instance(number) for number in range(1, MANY + 1))))
            for number, store in enumerate(stores):
                await store.take_lease(Claimant(f"compute-{number}", "node"), for_s=30)
            async with anyio.create_task_group() as group:
                for number in range(1, MANY + 1):
                    group.start_soon(save_and_look, stores[number % 2], number)
            found = await stores[1].load_instances(HOST)
            for store in stores:
                await store.close()
    assert {one.task_state for one in found} == {TaskState.REBOOTING}
    assert len(found) == MANY


async def save_and_look(store: SqlStore, number: int) -> None:
    for before, after in ((None, TaskState.POWERING_ON), (TaskState.POWERING_ON, TaskState.REBOOTING)):
        await store.save(
            uuid_of(number), {"task_state": after}, expected=expected(VmState.ACTIVE, task_states=(before,))
        )
        assert (await store.get_instance(uuid_of(number))).task_state is after


async def test_one_transaction_leaves_nothing_in_the_session_of_another_client(server: Server) -> None:
    with a_pgbouncer(server, "transaction", connections=1) as port:
        store = await postgresql_store(through(port, server))
        await store.import_records(records(instance(1)))
        with server.connect("postgres") as connection:
            own = connection.execute("SHOW statement_timeout").fetchone()

        def look() -> object:
            database = f"host=127.0.0.1 port={port} user={USER} password={PASSWORD} dbname={store_database}"
            with psycopg.connect(database, prepare_threshold=None) as connection:
                return connection.execute("SHOW statement_timeout").fetchone()

        store_database = store._database.name.rpartition("/")[2]
        assert await anyio.to_thread.run_sync(look) == own
        await store.close()


async def test_a_pool_of_single_statements_is_refused_in_words(server: Server) -> None:
    with (
        a_pgbouncer(server, "statement") as port,
        pytest.raises(SettingsError, match=r"store\.url: .*statement pooling mode"),
        anyio.fail_after(30),
    ):
        await postgresql_store(through(port, server), wait_s=60)


@pytest.mark.parametrize("auth", ["md5", "scram-sha-256", "trust"])
async def test_it_lets_in_by_any_way_that_shows_no_password(server: Server, auth: str) -> None:
    with a_pgbouncer(server, "transaction", auth=auth) as port:
        store = await postgresql_store(through(port, server), wait_s=1)
        await store.close()
