"""One reader and one rule for every secret that is read from a file, whichever key names the file."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from bringup.daemon.settings import load
from bringup.daemon.settings.keys import KEYS, is_secret
from support.settings_files import problems, value_of

SECRET = "amqp://s3cret@rabbit"
SECRETS = {key for key in KEYS if is_secret(key)}
KEYS_OF_FILES = sorted(key for key in KEYS if key.removesuffix("_file") in SECRETS - {key})
PRIVATE_KEYS = sorted(key for key in KEYS if key.endswith(".key_file"))
# In the settings of a PostgreSQL its password is used.
POSTGRESQL = "store.url=postgresql://bringup@127.0.0.1/bringup"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


@pytest.fixture(params=KEYS_OF_FILES)
def key(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


def overrides_with(key: str, path: Path) -> list[str]:
    return [POSTGRESQL, f"{key}={path}"]


def the_problem(key: str, path: Path) -> str:
    [problem] = problems(None, overrides=overrides_with(key, path))
    assert problem.startswith(f'{key} = "{path}" (--set): give ')
    assert "s3cret" not in problem
    return problem


def warnings(key: str, path: Path, **environment: str) -> list[str]:
    settings = load(None, environment=environment, overrides=overrides_with(key, path))
    assert value_of(settings, key.removesuffix("_file")).get_secret_value() == SECRET
    assert "s3cret" not in repr(settings)
    return [warning for warning in settings.warnings if warning.startswith(f"{key} ")]


def test_every_secret_has_a_key_for_its_file_and_every_such_key_is_tried_here() -> None:
    assert {f"{key}_file" for key in SECRETS} == set(KEYS_OF_FILES)
    assert {"store.password_file", "messaging.transport_url_file", "keystone.token_file"} < set(KEYS_OF_FILES)
    others = {key for key in KEYS if key.endswith("_file")} - set(KEYS_OF_FILES)
    assert {key.partition(".")[2] for key in others} == {"ca_file", "cert_file", "key_file"}


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_a_line_end_is_no_part_of_it(key: str, file: Path, end: str) -> None:
    file.write_text(f"{SECRET}{end}", newline="")
    assert warnings(key, file) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_one_that_others_can_read_is_used_and_warned_of(key: str, file: Path, mode: int) -> None:
    file.chmod(mode)
    [warning] = warnings(key, file)
    assert warning == f'{key} = "{file}" (--set): others than its owner can read it; chmod 600 "{file}"'
    assert warnings(key, file, CREDENTIALS_DIRECTORY=str(file.parent)) == []


def test_one_that_everybody_can_write_to_is_refused(key: str, file: Path) -> None:
    file.chmod(0o602)
    assert "not everybody can write to" in the_problem(key, file)


def test_one_in_a_folder_that_everybody_can_write_to_is_refused_unless_files_stay_their_owners(
    key: str, file: Path
) -> None:
    file.parent.chmod(0o777)
    assert "in a folder that not everybody can write to" in the_problem(key, file)
    # As /tmp is: nobody but its owner can put another file in its place.
    file.parent.chmod(0o1777)
    assert warnings(key, file) == []


def test_a_link_is_followed_where_it_is_root_s_or_ours_as_in_kubernetes(key: str, file: Path) -> None:
    folder = file.parent / "..2026_11_29"
    folder.mkdir()
    file.rename(folder / "secret")
    (file.parent / "..data").symlink_to(folder.name)
    file.symlink_to("..data/secret")
    assert warnings(key, file) == []


@as_root
def test_a_link_of_a_third_user_is_refused(key: str, file: Path) -> None:
    link = file.parent / "link"
    link.symlink_to(file)
    os.lchown(link, 12345, 12345)
    assert "it belongs to user 12345" in the_problem(key, link)


@as_root
def test_one_of_another_user_is_used_and_warned_of(key: str, file: Path) -> None:
    os.chown(file, 12345, 12345)
    [warning] = warnings(key, file)
    assert "it belongs to user 12345" in warning


def a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def a_socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize("make", [a_fifo, a_folder, a_device, a_socket])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(
    key: str, file: Path, make: Callable[[Path], None]
) -> None:
    make(file)
    problem = the_problem(key, file)
    assert "a regular file" in problem or "a file that can be read (" in problem


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"s3cret\ntwo", b"s3cret\xff", b"s3cret\x07", b"s3cret\0", b"\xef\xbb\xbfs3cret", b"s3cret" * 20_000],
)
def test_what_holds_no_one_secret_is_refused(key: str, file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert "a file that holds one " in the_problem(key, file)


def test_one_that_is_not_there_is_reported(key: str, tmp_path: Path) -> None:
    assert "a file that can be read (No such file or directory)" in the_problem(key, tmp_path / "nowhere")


@pytest.mark.parametrize("key", PRIVATE_KEYS)
def test_a_private_key_that_others_can_read_is_warned_of(key: str, file: Path) -> None:
    section = key.partition(".")[0]
    overrides = [POSTGRESQL, f"{key}={file}", f"{section}.cert_file={file}"]
    assert load(None, environment={}, overrides=overrides).warnings == ()
    file.chmod(0o644)
    [warning] = load(None, environment={}, overrides=overrides).warnings
    assert warning == f'{key} = "{file}" (--set): others than its owner can read it; chmod 600 "{file}"'
