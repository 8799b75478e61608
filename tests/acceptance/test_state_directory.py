"""A state directory that takes no writes, or whose file system keeps no locks: the host comes back, or a sentence."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import pytest

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.states import TaskState
from support import surroundings
from support.computer import Computer, a_computer
from support.postgresql import PASSWORD, the_server
from support.process import Ended, run, running
from support.records import instance, records, uuid_of
from support.stores import postgresql_store
from support.surroundings import Within

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
INTERRUPTED = instance(3, task_state=TaskState.REBOOT_PENDING_HARD)
INSTANCES: Sequence[Instance] = (instance(1), instance(2), INTERRUPTED)


def in_postgresql(directory: Path) -> Computer:
    """Make a host whose records are not in its state directory."""
    url = the_server().new_database()

    async def store() -> None:
        opened = await postgresql_store(url)
        await opened.import_records(records(*INSTANCES))
        await opened.close()

    anyio.run(store)
    computer = a_computer(directory).guests(INSTANCES).having(store={"url": url, "password": PASSWORD})
    computer.state.mkdir(mode=0o700)
    return computer


def in_the_directory(directory: Path) -> Computer:
    return a_computer(directory).guests(INSTANCES).records(INSTANCES)


def read_only(computer: Computer) -> Within:
    return Within(surroundings.read_only, str(computer.state))


def full(computer: Computer) -> Within:
    return Within(surroundings.full, str(computer.state))


def without(*calls: str) -> Within:
    return Within(surroundings.without_locks, *calls)


def assert_ended(ended: Ended, code: int, *words: str) -> None:
    output = ended.out + ended.err
    assert (ended.code, "Traceback" in output) == (code, False), output
    assert all(word in output for word in words), output
    assert len(ended.err) < 1000


@as_root
@pytest.mark.parametrize("make", [read_only, full])
def test_with_records_elsewhere_a_directory_that_takes_no_writes_does_not_keep_the_host_down(
    tmp_path: Path, make: Callable[[Computer], Within]
) -> None:
    computer = in_postgresql(tmp_path)

    ended = computer.run(within=make(computer), afresh=True)

    assert_ended(ended, 0)
    # What must be on record first is held, everything else is done.
    assert ended.outcomes == {uuid_of(1): "initialized", uuid_of(2): "initialized", uuid_of(3): "held"}
    [said] = ended.named("state_directory.not_written")
    assert said["error"] in {"Read-only file system", "No space left on device"}
    assert computer.run().outcomes[uuid_of(3)] == "initialized"


@as_root
def test_where_nothing_can_be_written_there_is_still_one_daemon_a_host(tmp_path: Path) -> None:
    # Not on a full disk: each command would have a disk, and so a directory, of its own.
    computer = in_postgresql(tmp_path)
    with computer.stay(within=read_only(computer)) as daemon:
        daemon.until("service.ready")
        assert_ended(computer.once(within=read_only(computer)), 75, "another bringup (pid ")
        # Nor when it can be written again.
        assert_ended(computer.once(), 75, "another bringup (pid ")


@as_root
def test_records_on_a_file_system_that_takes_no_writes_are_waited_for(tmp_path: Path) -> None:
    computer = in_the_directory(tmp_path)
    assert_ended(computer.once(within=read_only(computer)), 75, str(computer.store), "its file system is read-only")


@as_root
def test_what_was_done_can_be_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    computer = in_the_directory(tmp_path)
    assert computer.run().code == 0
    [before] = [json.loads(line) for line in run("history", "--json", *computer.arguments).out.splitlines()]

    ended = run("history", "--json", *computer.arguments, within=read_only(computer))

    assert_ended(ended, 0)
    assert [json.loads(line) for line in ended.out.splitlines()] == [before]


@as_root
def test_check_reports_that_nothing_can_be_written(tmp_path: Path) -> None:
    computer = in_postgresql(tmp_path)
    ended = run("check", *computer.arguments, within=read_only(computer))
    assert_ended(ended, 0, "state", str(computer.state), "Read-only file system")


def test_without_one_kind_of_locks_another_makes_the_daemon_the_only_one(tmp_path: Path) -> None:
    computer = in_the_directory(tmp_path)
    with computer.stay(within=without("flock")) as daemon:
        daemon.until("state_directory.no_locks")
        daemon.until("service.ready")
        assert_ended(
            computer.once(within=without("flock"), afresh=True),
            75,
            f"another bringup (pid {daemon.process.pid}) runs for this host",
        )


ANOTHER_USERS = """
import hashlib, os, socket, sys
found = os.stat(sys.argv[1])
name = hashlib.sha256(f"{found.st_dev}:{found.st_ino}".encode()).hexdigest()
os.setgid(65534)
os.setuid(65534)
with socket.socket(socket.AF_UNIX) as own:
    own.bind(f"\\0bringup-{name}")
    own.listen(1)
    print("listens", flush=True)
    sys.stdin.read()
"""


@as_root
def test_a_lock_that_another_users_process_holds_is_reported_to_be_held_by_it(tmp_path: Path) -> None:
    computer = in_the_directory(tmp_path)
    holder = [sys.executable, "-c", ANOTHER_USERS, str(computer.state)]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "listens\n"
            said = f"another user (pid {process.pid}, uid 65534), which is no bringup of this host"
            assert_ended(computer.once(within=without("flock")), 75, said, "host.state_directory")
        finally:
            process.kill()


def test_with_records_elsewhere_a_file_system_without_any_locks_does_not_keep_the_host_down(tmp_path: Path) -> None:
    computer = in_postgresql(tmp_path)

    ended = computer.run(within=without("flock", "fcntl"))

    assert_ended(ended, 0)
    assert ended.outcomes == {uuid_of(1): "initialized", uuid_of(2): "initialized", uuid_of(3): "held"}
    assert ended.named("state_directory.no_locks")
    assert "keeps no locks" in str(ended.named("journal.not_written"))


@pytest.mark.parametrize("calls", [("fcntl",), ("flock", "fcntl")], ids=",".join)
def test_records_on_a_file_system_without_locks_are_a_wrong_setting(tmp_path: Path, calls: Sequence[str]) -> None:
    computer = in_the_directory(tmp_path)
    within = without(*calls)
    assert_ended(computer.once(within=within), 78, str(computer.store), "its file system keeps no locks")
    assert_ended(run("check", *computer.arguments, within=within), 78, "its file system keeps no locks")
    assert_ended(run("history", *computer.arguments, within=within), 0)


@as_root
def test_a_directory_that_cannot_be_made_now_is_waited_for(tmp_path: Path) -> None:
    computer = in_postgresql(tmp_path).having(host={"state_directory": str(tmp_path / "state" / "of" / "one")})
    ended = computer.once(within=read_only(computer))
    assert_ended(ended, 75, "cannot be made (Read-only file system)")
    with running("run", "--json", *computer.arguments) as daemon:
        daemon.until("service.ready")
