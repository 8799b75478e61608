"""The file of a secret that survives a restart: nobody else's file is read, and nobody else can read it."""

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bringup.daemon.storage.runtime_file import LARGEST, RuntimeFile, runtime_directory

NOBODY = 65534


@pytest.fixture
def kept(tmp_path: Path) -> RuntimeFile:
    file = RuntimeFile(tmp_path / "run" / "keystone" / "login.json")
    file.write("s3cr3t")
    return file


def modes(path: Path) -> tuple[int, int]:
    return stat.S_IMODE(path.parent.stat().st_mode), stat.S_IMODE(path.stat().st_mode)


def test_it_is_private_whatever_the_umask_and_read_back(tmp_path: Path) -> None:
    file = RuntimeFile(tmp_path / "keystone" / "login.json")
    before = os.umask(0)
    try:
        file.write("first")
        file.write("second")
    finally:
        os.umask(before)
    assert modes(file.path) == (0o700, 0o600)
    assert file.read() == "second"
    assert [path.name for path in file.path.parent.iterdir()] == ["login.json"]
    file.remove()
    file.remove()
    assert file.read() is None


def to_a_link(path: Path) -> None:
    target = path.with_name("target")
    path.rename(target)
    path.symlink_to(target)


def to_a_second_name(path: Path) -> None:
    path.with_name("second").hardlink_to(path)


def to_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def to_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def to_a_socket(path: Path) -> None:
    path.unlink()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path.name)


def to_a_large_one(path: Path) -> None:
    path.write_text("x" * (LARGEST + 1))


def to_one_of_another_user(path: Path) -> None:
    os.chown(path, NOBODY, -1)


def to_a_folder_of_another_user(path: Path) -> None:
    os.chown(path.parent, NOBODY, -1)


ODD: dict[str, tuple[Callable[[Path], None], str]] = {
    "a link": (to_a_link, "it is a link"),
    "two names": (to_a_second_name, "one name"),
    "a folder": (to_a_folder, "it is no file"),
    "a pipe": (to_a_pipe, "it is no file"),
    "a socket": (to_a_socket, "it is no file"),
    "too large": (to_a_large_one, "it is larger than"),
    "group": (lambda path: path.chmod(0o640), "mode 0600"),
    "everybody": (lambda path: path.chmod(0o602), "mode 0600"),
    "an open folder": (lambda path: path.parent.chmod(0o755), "mode 0700"),
    "another user": (to_one_of_another_user, "this user alone"),
    "another user's folder": (to_a_folder_of_another_user, "this user alone"),
}


@pytest.mark.parametrize(("change", "reason"), ODD.values(), ids=ODD.keys())
def test_what_others_may_have_written_or_read_is_not_used(
    kept: RuntimeFile, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], reason: str
) -> None:
    monkeypatch.chdir(kept.path.parent)
    try:
        change(kept.path)
    except PermissionError:
        pytest.skip("only root can give a file away")
    with capture_logs() as logs:
        assert kept.read() is None
    [line] = logs
    assert (line["event"], line["path"]) == ("runtime_file.ignored", str(kept.path))
    assert reason in line["reason"]
    assert "s3cr3t" not in str(line)


def test_nothing_is_written_into_a_folder_of_others_and_that_is_said_once(kept: RuntimeFile) -> None:
    kept.path.parent.chmod(0o755)
    with capture_logs() as logs:
        kept.write("new")
        kept.write("new")
    assert [line["event"] for line in logs] == ["runtime_file.not_written"]
    assert not kept.path.exists()
    kept.path.parent.chmod(0o700)
    kept.write("new")
    assert kept.read() == "new"


def test_what_is_no_text_is_read_as_some_text(kept: RuntimeFile) -> None:
    kept.path.write_bytes(b"\xff\xfe{}")
    assert kept.read() == "\ufffd\ufffd{}"


@pytest.mark.parametrize(
    ("given", "expected"),
    [("/run/bringup", Path("/run/bringup")), ("/run/a:/run/b", Path("/run/a")), ("", None), ("run", None)],
)
def test_the_folder_is_the_units(given: str, expected: Path | None) -> None:
    assert runtime_directory({"RUNTIME_DIRECTORY": given}) == expected
    assert runtime_directory({}) is None
