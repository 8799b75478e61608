"""What is in the place of a file of our own and is none is never waited for."""

import errno
import fcntl
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bringup.daemon.errors import SettingsError, Temporary, UsageError
from bringup.daemon.service.assembly import boot_id
from bringup.daemon.settings import load
from bringup.daemon.settings.credentials.nova_conf import parsed
from bringup.daemon.storage.alive import FILE as ALIVE
from bringup.daemon.storage.alive import FORMAT
from bringup.daemon.storage.alive import read as read_alive
from bringup.daemon.storage.identity import FILE as IDENTITY
from bringup.daemon.storage.identity import read_identity
from bringup.daemon.storage.outbox.spool import Spool
from bringup.daemon.storage.record_files.reading import read_records
from bringup.daemon.storage.state_directory import LOCK, hold_lock
from bringup.daemon.storage.store.database_url import parse_database_url
from bringup.daemon.storage.store.postgresql import Tls, connect_args
from bringup.drivers.files import LARGEST, open_input, read_file
from bringup.drivers.simulated.scenario_file import ScenarioError, read_scenario


def a_link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def a_huge_file(path: Path) -> None:
    """Make what a damaged file system may say of a file: it has no more on the disk than any other."""
    with path.open("wb") as file:
        file.truncate(1 << 42)


NO_FILES = {
    "FIFO": os.mkfifo,
    "directory": Path.mkdir,
    "device": a_link_to("/dev/zero"),
    "itself": a_link_to("there"),
    "huge": a_huge_file,
}


@pytest.mark.parametrize("makes", NO_FILES.values(), ids=NO_FILES)
def test_it_is_an_error_at_once(tmp_path: Path, makes: Callable[[Path], None]) -> None:
    makes(tmp_path / "there")
    with pytest.raises(OSError, match="there") as raised:
        read_file(tmp_path / "there")
    assert raised.value.errno in {errno.EINVAL, errno.EISDIR, errno.ELOOP}
    (tmp_path / "file").write_bytes(b"whole")
    assert read_file(tmp_path / "file") == b"whole"


def test_a_file_that_is_larger_than_any_of_ours_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    os.truncate(tmp_path / "there", LARGEST + 1)
    with pytest.raises(OSError, match="is larger than"):
        read_file(tmp_path / "there")
    with pytest.raises(SettingsError, match="is larger than"):
        parsed([tmp_path / "there"])


def test_a_nova_conf_that_the_disk_does_not_give_is_reported() -> None:
    # The kernel's answer to its first byte is EIO.
    with pytest.raises(SettingsError, match="cannot be read"):
        parsed([Path("/proc/self/mem")])


def test_a_pipe_that_is_named_in_the_place_of_a_file_is_read_where_somebody_writes_to_it(tmp_path: Path) -> None:
    there, (ours, theirs) = tmp_path / "there", os.pipe()
    os.mkfifo(there)
    with pytest.raises(OSError, match="nobody writes to it"), open_input(there, wait_s=0):
        pass
    os.write(theirs, b"whole")
    os.close(theirs)
    # As a shell's <(command).
    with open_input(Path(f"/dev/fd/{ours}"), wait_s=0) as stream:
        assert stream.read() == b"whole"
    os.close(ours)


def test_no_command_waits_for_a_pipe_to_which_nobody_writes(tmp_path: Path) -> None:
    there = tmp_path / "there"
    os.mkfifo(there)
    reads: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: load(there, environment={}, overrides=[]), SettingsError, "nobody writes to it"),
        (lambda: read_records(there, host=None), UsageError, "cannot read records"),
        (lambda: read_scenario(there), ScenarioError, "nobody writes to it"),
        (lambda: parsed([there]), SettingsError, "nobody writes to it"),
    ]
    with ThreadPoolExecutor() as threads:
        for (_, kind, says), asked in zip(reads, [threads.submit(each[0]) for each in reads], strict=True):
            with pytest.raises(kind, match=says):
                asked.result(timeout=60)


@pytest.mark.parametrize("makes", [os.mkfifo, Path.mkdir, a_huge_file], ids=["FIFO", "directory", "huge"])
def test_so_it_is_for_each_that_the_daemon_keeps(tmp_path: Path, makes: Callable[[Path], None]) -> None:
    for name in (IDENTITY, ALIVE, "boot_id", "00000000000000000001-report.json"):
        makes(tmp_path / name)
    with pytest.raises(SettingsError, match="a file is required there"):
        read_identity(tmp_path)
    assert read_alive(tmp_path / ALIVE) == []
    with pytest.raises(SettingsError, match="name the file with the kernel's boot id"):
        boot_id(load(None, environment={}, overrides=[f"host.boot_id={tmp_path / 'boot_id'}"]))
    assert Spool(tmp_path, keep=3).read(tmp_path / "00000000000000000001-report.json") is None
    assert [path.name for path in (tmp_path / "corrupt").iterdir()] == ["00000000000000000001-report.json"]


@pytest.mark.parametrize("makes", [os.mkfifo, Path.mkdir, Path.touch], ids=["FIFO", "directory", "empty file"])
def test_who_holds_the_lock_is_reported_without_a_number_where_there_is_none(
    tmp_path: Path, makes: Callable[[Path], None]
) -> None:
    holder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        makes(tmp_path / LOCK)
        with pytest.raises(Temporary, match=r"another bringup \(pid unknown\) runs"), hold_lock(tmp_path):
            pass
    finally:
        os.close(holder)


@pytest.mark.parametrize("key", ["ca_file", "cert_file", "key_file"])
def test_a_file_of_certificates_for_postgresql_is_not_waited_for(tmp_path: Path, key: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    files: dict[str, Any] = {"cert_file": tmp_path / "file", "ca_file": tmp_path / "file", key: tmp_path / "fifo"}
    tls = Tls(**files)
    with pytest.raises(SettingsError, match=rf"store\.{key}: {tmp_path}/fifo cannot be read \(it is no file\)"):
        connect_args(parse_database_url("postgresql://b@db.example/b"), None, tls)


@pytest.mark.parametrize("time", ["NaN", "Infinity", "1e999"])
@pytest.mark.parametrize("key", ["at", "first_boot_s"])
def test_a_time_that_is_no_number_is_none(tmp_path: Path, key: str, time: str) -> None:
    boot = {"boot_id": "b", "at": 1.0, "is_clock_set": True, "is_kept": True, "first_boot_s": 1.0}
    (tmp_path / "good").write_text(json.dumps({"format": FORMAT, "boots": [boot]}))
    assert len(read_alive(tmp_path / "good")) == 1
    (tmp_path / "bad").write_text((tmp_path / "good").read_text().replace(f'"{key}": 1.0', f'"{key}": {time}'))
    assert read_alive(tmp_path / "bad") == []
