"""What only the SQLite store does: the file, its opening, its commits, its survival."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import event

from bringup.daemon.decisions.states import PowerState, VmState
from bringup.daemon.errors import BringupError, Refused, SettingsError, StoreError, Temporary
from bringup.daemon.storage.store.sql import SqlStore
from bringup.daemon.storage.store.sqlite import open_database
from support.records import HOST, expected, instance, migration, records, uuid_of
from support.stores import open_sqlite, sqlite_store

pytestmark = pytest.mark.anyio

CHILD = [sys.executable, str(Path(__file__).parent / "support" / "store_child.py")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "store.sqlite"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def locked(path: Path, how: str = "IMMEDIATE") -> Iterator[None]:
    """Hold the file as another program would that writes to it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(f"BEGIN {how}")
        yield


async def test_the_file_and_what_stands_beside_it_are_private(path: Path) -> None:
    umask = os.umask(0)
    try:
        async with open_sqlite(path) as store:
            await store.import_records(records(instance(1)))
            modes = {entry.name: mode(entry) for entry in path.parent.iterdir()}
    finally:
        os.umask(umask)

    assert modes == dict.fromkeys(["store.sqlite", "store.sqlite-wal", "store.sqlite-shm"], 0o600)
    assert mode(path.parent) == 0o700


async def test_a_file_that_others_could_read_is_made_private(path: Path) -> None:
    open_database(path).engine.dispose()
    await anyio.Path(path).chmod(0o644)

    async with open_sqlite(path):
        assert mode(path) == 0o600


PRAGMAS = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 1500}


@pytest.mark.parametrize("name", PRAGMAS)
async def test_every_connection_is_set_up_to_survive_power_loss(path: Path, name: str) -> None:
    database = open_database(path, busy_timeout_s=1.5)

    with database.engine.connect() as first, database.engine.connect() as second:
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for connection in (first, second)]

    database.engine.dispose()
    assert found == [PRAGMAS[name]] * 2


async def test_saves_that_are_made_at_once_share_commits(path: Path) -> None:
    database = open_database(path)
    store = SqlStore(database)
    await store.import_records(records(*(instance(number) for number in range(100))))
    commits: list[object] = []
    event.listen(database.engine, "commit", commits.append)

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(
                lambda name: store.save(name, {"power_state": PowerState.PAUSED}, expected=expected(VmState.ACTIVE)),
                uuid_of(number),
            )
    await store.close()

    # The tasks start in one turn of the event loop or, in trio's random order, in two.
    assert 1 <= len(commits) <= 3


async def test_a_save_is_in_the_file_when_it_returns(path: Path) -> None:
    async with open_sqlite(path) as store:
        await store.import_records(records(instance(1)))
        await store.save(uuid_of(1), {"vm_state": VmState.ERROR}, expected=expected(VmState.ACTIVE))
        with closing(sqlite3.connect(path)) as other:
            assert other.execute("SELECT vm_state FROM instances").fetchall() == [("error",)]


async def test_loading_takes_one_query_a_table_however_many_instances_there_are(path: Path) -> None:
    database = open_database(path)
    store = SqlStore(database)
    await store.import_records(records(*(instance(number) for number in range(50))))
    queries: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *arguments: queries.append(arguments[2]))

    await store.load_instances(HOST)
    await store.close()

    assert len([query for query in queries if query.startswith("SELECT")]) == 5


async def test_a_damaged_state_is_loaded_as_that_instance_s_unknown_state(path: Path) -> None:
    async with open_sqlite(path) as store:
        await store.import_records(records(instance(1), instance(2)))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("UPDATE instances SET vm_state = 'hibernated' WHERE uuid = ?", [uuid_of(1)])

        unknown, usual = await store.load_instances(HOST)

    assert (unknown.vm_state.value, usual) == ("hibernated", instance(2))


def as_it_is(path: Path) -> tuple[int, bytes] | None:
    return (mode(path), path.read_bytes()) if path.is_file() else None


def not_a_database(path: Path) -> None:
    path.write_bytes(b"These are no records. " * 500)


def truncated(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.executescript("CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(100000))")
    os.truncate(path, 5000)


def of_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.executescript("CREATE TABLE songs (name)")
    path.chmod(0o644)


def newer(path: Path) -> None:
    open_database(path).engine.dispose()
    with closing(sqlite3.connect(path)) as database:
        database.executescript("UPDATE schema_version SET version = 99")


def without_version(path: Path) -> None:
    open_database(path).engine.dispose()
    with closing(sqlite3.connect(path)) as database:
        database.executescript("DELETE FROM schema_version")


def with_a_damaged_name(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.executescript("CREATE TABLE xxxxxxxx (a)")
    path.write_bytes(path.read_bytes().replace(b"xxxxxxxx", b"\xff\xfexxxxxx"))


def ours_with_a_damaged_name(path: Path) -> None:
    open_database(path).engine.dispose()
    with closing(sqlite3.connect(path)) as database:
        database.executescript("CREATE TABLE xxxxxxxx (a); PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode=DELETE")
    path.write_bytes(path.read_bytes().replace(b"xxxxxxxx", b"\xff\xfexxxxxx"))


def a_directory(path: Path) -> None:
    path.mkdir()


def below_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("")


UNFIT: dict[str, tuple[Callable[[Path], None], type[BringupError], str]] = {
    "not a database": (not_a_database, Refused, "it is not an SQLite database"),
    "cut short": (truncated, Refused, "it is damaged"),
    "of another program": (of_another_program, Refused, "it is a database of another program"),
    "with a damaged name": (with_a_damaged_name, Refused, "it is a database of another program"),
    "newer": (newer, Refused, "its schema version is 99, this version of bringup knows 2; run the version that wrote"),
    "without a version": (without_version, Refused, "its schema version is None"),
    "a directory": (a_directory, SettingsError, ".* is no file; let store.url name a file"),
    "below a file": (below_a_file, SettingsError, "this user must be able to read and write it and its directory"),
}


@pytest.mark.parametrize(("spoil", "error", "message"), UNFIT.values(), ids=UNFIT)
async def test_a_file_that_is_no_store_is_refused_and_left_as_it_is(
    path: Path, spoil: Callable[[Path], None], error: type[BringupError], message: str
) -> None:
    path.parent.mkdir()
    spoil(path)
    before = as_it_is(path)

    with pytest.raises(error, match=f"{path}: {message}"):
        await sqlite_store(path)

    assert as_it_is(path) == before


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("must_exist", [False, True])
async def test_what_is_no_file_is_refused_and_neither_waited_for_nor_changed(
    path: Path, suffix: str, *, must_exist: bool
) -> None:
    path.parent.mkdir()
    # A FIFO of somebody else, as a device would be.
    theirs = path.parent / "theirs"
    os.mkfifo(theirs)
    theirs.chmod(0o666)
    path.with_name(path.name + suffix).symlink_to(theirs)

    with pytest.raises(SettingsError, match=f"cannot open the store {path}: .* is no file; let store.url name a file"):
        await sqlite_store(path, must_exist=must_exist)

    assert (theirs.is_fifo(), stat.S_IMODE(theirs.stat().st_mode)) == (True, 0o666)
    assert len(list(path.parent.iterdir())) == 2


async def test_no_store_is_made_where_a_link_leads_to_nothing(path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(path.parent / "not mounted" / "records.sqlite")
    with pytest.raises(SettingsError, match="is a link to what is not there"):
        await sqlite_store(path)


async def test_a_store_with_a_damaged_name_of_a_table_is_refused(path: Path) -> None:
    path.parent.mkdir()
    ours_with_a_damaged_name(path)
    with pytest.raises(Refused, match="it is damaged"):
        await sqlite_store(path)


@contextmanager
def as_another_user() -> Iterator[None]:
    """Drop root's rights, if the tests run as root: root may open anything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_a_store_that_this_user_may_not_open_is_a_matter_of_settings(path: Path) -> None:
    open_database(path).engine.dispose()
    directory = anyio.Path(path.parent)
    await directory.chmod(0)

    with as_another_user(), pytest.raises(SettingsError, match=f"cannot open the store {path}: ") as caught:
        await sqlite_store(path)

    await directory.chmod(0o700)
    assert isinstance(caught.value.__cause__, OSError | sqlite3.Error)


async def test_a_store_that_is_not_there_is_not_made_where_it_must_exist(path: Path) -> None:
    with pytest.raises(SettingsError, match="bringup import makes it"):
        await sqlite_store(path, must_exist=True)

    assert not path.parent.exists()


async def test_an_empty_file_becomes_a_store(path: Path) -> None:
    await anyio.Path(path.parent).mkdir()
    await anyio.Path(path).touch()

    async with open_sqlite(path, must_exist=True) as store:
        assert await store.load_instances(HOST) == []


@pytest.mark.parametrize("exists", [True, False], ids=["a store", "a file that is to become one"])
@pytest.mark.parametrize("how", ["IMMEDIATE", "EXCLUSIVE"])
async def test_a_store_that_another_process_keeps_locked_may_open_later(path: Path, how: str, *, exists: bool) -> None:
    path.parent.mkdir()
    if exists:
        open_database(path).engine.dispose()

    with locked(path, how), pytest.raises(Temporary, match=f"{path}: another process keeps it locked") as caught:
        await sqlite_store(path, busy_timeout_s=0.01)

    assert caught.value.exit_code == 75
    async with open_sqlite(path) as store:
        assert await store.load_instances(HOST) == []


async def test_opening_a_store_again_in_one_process_keeps_its_locks(path: Path) -> None:
    async with open_sqlite(path, busy_timeout_s=0.01) as store:
        await store.import_records(records(instance(1)))
        with locked(path):
            for _ in range(2):
                with pytest.raises(Temporary, match="keeps it locked"):
                    await sqlite_store(path, busy_timeout_s=0.01)
            with pytest.raises(StoreError, match="keeps it locked"):
                await store.save(uuid_of(1), {"vm_state": VmState.ERROR}, expected=expected(VmState.ACTIVE))


async def test_a_save_that_meets_a_lock_fails_and_can_be_made_later(path: Path) -> None:
    async with open_sqlite(path, busy_timeout_s=0.01) as store:
        await store.import_records(records(instance(1)))
        with locked(path), pytest.raises(StoreError, match="another process keeps it locked") as caught:
            await store.save(uuid_of(1), {"vm_state": VmState.ERROR}, expected=expected(VmState.ACTIVE))
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
        assert await store.load_instances(HOST) == [instance(1)]

        await store.save(uuid_of(1), {"vm_state": VmState.ERROR}, expected=expected(VmState.ACTIVE))


async def test_records_are_read_while_another_process_writes(path: Path) -> None:
    async with open_sqlite(path, busy_timeout_s=0.01) as store:
        await store.import_records(records(instance(1), migrations=(migration(1),)))
        with locked(path):
            assert await store.load_instances(HOST) == [instance(1)]
            assert await store.get_instance(uuid_of(1)) == instance(1)
            assert await store.load_migrations(HOST, ["done"]) == [migration(1)]


async def test_a_table_that_is_gone_is_a_store_error_that_names_the_file(path: Path) -> None:
    async with open_sqlite(path) as store:
        with closing(sqlite3.connect(path)) as other:
            other.executescript("DROP TABLE block_device_mapping")
        with pytest.raises(StoreError, match=f"cannot read the instances of host {HOST} in {path}"):
            await store.load_instances(HOST)


async def test_what_is_saved_is_in_no_message(path: Path) -> None:
    async with open_sqlite(path) as store:
        await store.import_records(records(instance(1)))
        with closing(sqlite3.connect(path)) as other:
            other.executescript("DROP TABLE instance_system_metadata")
        with pytest.raises(StoreError) as caught:
            await store.save(
                uuid_of(1), {"system_metadata": {"password": "hunter2"}}, expected=expected(VmState.ACTIVE)
            )

    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in f"{error}{error!r}"
        error = error.__cause__ or error.__context__


def kill_in_the_middle(path: Path, acknowledged: dict[str, int]) -> int:
    """Note what a process says that it saved, kill it, and return its status."""
    with subprocess.Popen([*CHILD, "saves", str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for count, line in enumerate(child.stdout):
            if not line.endswith("\n"):
                break  # killed in the middle of a word
            uuid, number = line.split()
            acknowledged[uuid] = int(number)
            if count == 400:
                child.send_signal(signal.SIGKILL)
    return child.returncode


async def test_what_was_acknowledged_survives_a_kill(path: Path) -> None:
    async with open_sqlite(path) as store:
        await store.import_records(records(*(instance(number) for number in range(8))))
    acknowledged: dict[str, int] = {}

    status = await anyio.to_thread.run_sync(kill_in_the_middle, path, acknowledged)

    async with open_sqlite(path) as store:
        saved = {one.uuid: int(one.system_metadata["saved"]) for one in await store.load_instances(HOST)}
    assert status == -signal.SIGKILL
    # One that was in progress may be there without an acknowledgement.
    assert {saved[uuid] - number for uuid, number in acknowledged.items()} <= {0, 1}
    assert len(acknowledged) == 8


async def test_a_full_disk_is_a_store_error_and_loses_nothing_that_was_acknowledged(path: Path) -> None:
    async with open_sqlite(path) as store:
        await store.import_records(records(instance(1), instance(2)))

    child = await anyio.run_process([*CHILD, "full", str(path)], check=False)

    assert (child.returncode, child.stderr) == (0, b"")
    refused, acknowledged, read_back = child.stdout.decode().splitlines()
    assert f"refused StoreUnavailable cannot save 1 records in {path}: its disk is full" in refused
    assert "OperationalError" in refused.split("|")[1]
    count = acknowledged.split()[-1]
    assert int(count) > 1
    assert read_back == f"read back {count}"
    async with open_sqlite(path) as store:
        saved = [one.system_metadata["saved"].split()[0] for one in await store.load_instances(HOST)]
    assert saved == [count, "later"]
