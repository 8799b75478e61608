"""Files that are cut short, not UTF-8, huge, double, locked or somebody else's: named, and nothing is lost."""

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bringup.daemon.decisions.states import TaskState, VmState
from bringup.daemon.storage.record_files import Records, dump_records
from support.computer import Computer, a_computer
from support.process import ENVIRONMENT, WITHOUT_ROOTS_RIGHTS, Ended, run
from support.records import instance, uuid_of

HUGE_BYTES = 200 * 2**20
INSTANCES = (instance(1), instance(2))


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    return a_computer(tmp_path).guests(INSTANCES).records(INSTANCES)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


def in_latin_1(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"instance-", b"instanc\xe9-", 1))


def huge(path: Path) -> None:
    # A hole: it takes no place on the disk.
    os.truncate(path, HUGE_BYTES)


def missing(path: Path) -> None:
    path.unlink()


def unreadable(path: Path) -> None:
    path.chmod(0)


def twice(key: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        document = json.loads(path.read_text())
        document[key].append(document[key][0])
        path.write_text(json.dumps(document))

    change.__name__ = "the same UUID twice"
    return change


def name_of(value: object) -> str:
    return getattr(value, "__name__", "").replace("_", " ")


def assert_named(ended: Ended, code: int, path: Path, said: str) -> None:
    assert ended.code == code
    assert (ended.out + ended.err).count("Traceback") == 0
    assert str(path) in ended.err
    assert said in ended.err
    assert len(ended.err) < 5000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (cut_short, "truncated"),
        (in_latin_1, "not UTF-8"),
        (huge, "longer than 67108864 bytes"),
        (twice("guests"), uuid_of(1)),
        (missing, "scenario"),
        (unreadable, "Permission denied"),
    ],
    ids=name_of,
)
def test_a_scenario_that_cannot_be_used_is_a_wrong_setting(
    computer: Computer, change: Callable[[Path], None], said: str
) -> None:
    before = computer.stored()
    scenario = computer.directory / "scenario.json"
    change(scenario)

    ended = computer.once(within=WITHOUT_ROOTS_RIGHTS)

    assert_named(ended, 78, scenario, said)
    assert computer.stored() == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (cut_short, "cut short"),
        (in_latin_1, "not UTF-8"),
        (huge, "200.0 MiB, the limit is 64 MiB"),
        (twice("instances"), uuid_of(3)),
        (missing, "No such file"),
        (unreadable, "must be a file that this user can read"),
    ],
    ids=name_of,
)
def test_records_that_cannot_be_used_are_refused_whole(
    computer: Computer, change: Callable[[Path], None], said: str
) -> None:
    before = computer.stored()
    records = computer.directory / "records.json"
    records.write_text(dump_records(Records(instances=(instance(3), instance(4)), migrations=())))
    change(records)

    ended = run("import", str(records), *computer.arguments, env=ENVIRONMENT, within=WITHOUT_ROOTS_RIGHTS)

    assert_named(ended, 64, records, said)
    assert computer.stored() == before


def test_records_with_unknown_states_are_taken(computer: Computer) -> None:
    records = computer.directory / "records.json"
    unknown = {"uuid": uuid_of(3), "host": "compute-1", "vm_state": "hibernating", "task_state": "teleporting"}
    records.write_text(json.dumps({"format": "bringup.records/1", "instances": [unknown]}))

    assert run("import", str(records), *computer.arguments, env=ENVIRONMENT).code == 0

    assert computer.stored()[uuid_of(3)].vm_state.value == "hibernating"
    assert computer.run().outcomes[uuid_of(3)] == "failed"


def test_a_store_that_another_process_keeps_locked_may_be_free_later(computer: Computer) -> None:
    computer.having(store={"busy_timeout": 0.2})
    with closing(sqlite3.connect(computer.store)) as holder:
        holder.execute("BEGIN EXCLUSIVE")

        ended = computer.once()

        assert_named(ended, 75, computer.store, "another process keeps it locked")
        holder.rollback()

    assert computer.once().code == 0


def test_who_reads_the_store_is_in_nobodys_way(computer: Computer) -> None:
    computer.records([instance(3, vm_state=VmState.BUILDING, task_state=TaskState.SPAWNING)])
    with closing(sqlite3.connect(computer.store)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM instances").fetchall()

        ended = computer.run()

    assert ended.code == 0
    assert computer.stored()[uuid_of(3)].vm_state is VmState.ERROR


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (b"these are my notes, not a database" * 100, 77, "not an SQLite database"),
        (b"SQLite format 3\x00" + b"\xff" * 8192, 77, "it is"),
    ],
    ids=["notes", "a damaged head"],
)
def test_a_store_that_is_none_is_refused_and_left_as_it_is(
    computer: Computer, content: bytes, code: int, said: str
) -> None:
    computer.store.write_bytes(content)

    ended = computer.once()

    assert_named(ended, code, computer.store, said)
    assert computer.store.read_bytes() == content


def test_the_database_of_another_program_is_refused_and_left_as_it_is(computer: Computer) -> None:
    computer.store.unlink()
    with closing(sqlite3.connect(computer.store)) as other:
        other.execute("CREATE TABLE music (title TEXT)")
        other.commit()
    before = computer.store.read_bytes()

    assert_named(computer.once(), 77, computer.store, "another program")

    assert computer.store.read_bytes() == before


def test_a_store_that_may_not_be_written_is_a_wrong_setting(computer: Computer) -> None:
    place = computer.directory / "elsewhere"
    place.mkdir()
    computer.having(store={"url": f"sqlite:///{place / 'instances.sqlite'}"})
    place.chmod(0o500)

    ended = computer.once(within=WITHOUT_ROOTS_RIGHTS, afresh=True)
    place.chmod(0o700)

    assert_named(ended, 78, place / "instances.sqlite", "read and write")


def test_a_lock_that_may_not_be_opened_is_a_wrong_setting(computer: Computer) -> None:
    lock = computer.state / "lock"
    lock.touch()
    lock.chmod(0)

    assert_named(computer.once(within=WITHOUT_ROOTS_RIGHTS), 78, lock, "Permission denied")
