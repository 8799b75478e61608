"""The state directory is private, and its lock makes one daemon the only one of a host."""

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bringup.daemon.errors import SettingsError, Temporary
from bringup.daemon.storage.state_directory import LOCK, NOT_NOW, OPERATOR_ERRORS, hold_lock, prepare
from support.files import no_files_left

HOLDER = """
import sys
from pathlib import Path
from bringup.daemon.storage.state_directory import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run another process that holds the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "locked\n"
            yield process
        finally:
            process.kill()


def test_a_directory_that_is_made_is_private(tmp_path: Path) -> None:
    directory = tmp_path / "state"

    prepare(directory)

    assert mode(directory) == 0o700
    assert list(directory.iterdir()) == []


def test_parents_are_made_too_and_again_is_fine(tmp_path: Path) -> None:
    directory = tmp_path / "lib" / "bringup"

    prepare(directory)
    prepare(directory)

    assert directory.is_dir()


def test_a_file_in_its_place_is_a_wrong_setting(tmp_path: Path) -> None:
    place = tmp_path / "state"
    place.write_text("")

    with pytest.raises(
        SettingsError, match=r"host\.state_directory: .*state cannot be used .*name a directory"
    ) as raised:
        prepare(place)
    assert raised.value.exit_code == 78


def test_a_directory_that_cannot_be_made_is_a_wrong_setting() -> None:
    with pytest.raises(SettingsError, match=r"host\.state_directory: /proc/bringup cannot be used"):
        prepare(Path("/proc/bringup"))


def test_a_host_that_has_no_files_left_is_no_wrong_setting(tmp_path: Path) -> None:
    with no_files_left(), pytest.raises(Temporary, match=r"host\.state_directory: .* cannot be written to \(Too many"):
        prepare(tmp_path)
    with no_files_left(), pytest.raises(Temporary, match=r"cannot be opened \(Too many"), hold_lock(tmp_path):
        pytest.fail("locked")


@pytest.mark.parametrize(
    "name",
    [
        *("ESTALE", "ETIMEDOUT", "ENOTCONN", "EHOSTDOWN", "EHOSTUNREACH", "ENXIO", "ENOMEM", "EMFILE", "ENFILE"),
        *("EIO", "EROFS", "ENOSPC", "EDQUOT", "ENODEV", "EBUSY", "EAGAIN", "ECONNREFUSED"),
    ],
)
def test_what_passes_by_itself_is_for_no_operator(name: str) -> None:
    assert getattr(errno, name) not in OPERATOR_ERRORS
    assert not set(NOT_NOW) & set(OPERATOR_ERRORS)


def test_the_lock_file_is_private_and_names_who_holds_it(tmp_path: Path) -> None:
    with hold_lock(tmp_path):
        assert mode(tmp_path / LOCK) == 0o600
        assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"


def test_nothing_is_left_of_the_pid_of_an_earlier_holder(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("1234567890123\n")

    with hold_lock(tmp_path):
        assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"


def test_a_second_process_is_refused_and_told_which_one_is_there(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as holder:
        said = rf"pid {holder.pid}\b.*stop it, or wait"
        with pytest.raises(Temporary, match=said) as raised, hold_lock(tmp_path):
            pytest.fail("locked twice")

    assert raised.value.exit_code == 75


def test_who_is_refused_leaves_the_pid_of_the_holder_in_place(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as holder:
        for _ in range(2):
            with pytest.raises(Temporary, match=rf"pid {holder.pid}\b"), hold_lock(tmp_path):
                pytest.fail("locked twice")


def test_the_lock_is_free_again_after_its_holder_was_killed(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as holder:
        holder.send_signal(signal.SIGKILL)
        assert holder.wait(timeout=60) == -signal.SIGKILL

    with hold_lock(tmp_path):
        assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"


def test_the_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(LookupError), hold_lock(tmp_path):
        raise LookupError
    with hold_lock(tmp_path):
        pass


def test_a_child_of_the_holder_does_not_keep_the_lock(tmp_path: Path) -> None:
    """A guest's process that outlives the daemon must not keep the next daemon out."""
    says_and_stays = [sys.executable, "-c", "import sys; print('here', flush=True); sys.stdin.read()"]
    with hold_lock(tmp_path):
        child = subprocess.Popen(
            says_and_stays, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "here\n"
    try:
        with hold_lock(tmp_path):
            pass
    finally:
        child.kill()
        child.communicate(timeout=60)


def test_a_lock_file_without_a_pid_is_no_reason_to_stumble(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path):
        (tmp_path / LOCK).write_bytes(b"\xff\xfe")
        with pytest.raises(Temporary, match="another bringup"), hold_lock(tmp_path):
            pytest.fail("locked twice")
        (tmp_path / LOCK).write_bytes(b"")
        with pytest.raises(Temporary, match="pid unknown"), hold_lock(tmp_path):
            pytest.fail("locked twice")


def test_a_lock_that_cannot_be_opened_is_a_wrong_setting(tmp_path: Path) -> None:
    with (
        pytest.raises(SettingsError, match=r"host\.state_directory: .*lock cannot be opened"),
        hold_lock(tmp_path / "no"),
    ):
        pytest.fail("locked nothing")
