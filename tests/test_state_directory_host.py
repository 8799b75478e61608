"""A state directory remembers whose it is: a wrong host name would bring another host's guests back."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from bringup.daemon.errors import SettingsError
from bringup.daemon.state_directory import HOST as FILE
from bringup.daemon.state_directory import is_private, remember_host, remembers_host
from bringup.drivers.simulated import Scenario
from support.command_lines import Site
from support.records import HOST, instance

OTHER = "compute-2"


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path, capsys)


def remembered(path: Path) -> str:
    return (path / FILE).read_text()


def problem_of(path: Path, name: str) -> str:
    with pytest.raises(SettingsError) as raised:
        remember_host(path, name)
    [problem] = raised.value.problems
    return problem


def test_the_first_host_is_remembered_for_nobody_else_to_read(tmp_path: Path) -> None:
    assert not remembers_host(tmp_path, HOST)

    remember_host(tmp_path, HOST)

    assert remembered(tmp_path) == f"{HOST}\n"
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert remembers_host(tmp_path, HOST)
    remember_host(tmp_path, HOST)
    assert remembered(tmp_path) == f"{HOST}\n"


def test_another_host_is_refused_by_both_names_and_the_file(tmp_path: Path) -> None:
    remember_host(tmp_path, HOST)

    problem = problem_of(tmp_path, OTHER)

    assert problem.startswith(f"host.name: {OTHER!r}")
    for words in (repr(HOST), "host.state_directory", str(tmp_path / FILE)):
        assert words in problem
    assert remembered(tmp_path) == f"{HOST}\n"


@pytest.mark.parametrize("text", [OTHER, f"{OTHER}\n", f"  {OTHER}\r\n"], ids=["bare", "echo", "an editor's"])
def test_a_host_that_was_renamed_is_let_in_by_its_new_name_in_the_file(tmp_path: Path, text: str) -> None:
    remember_host(tmp_path, HOST)
    (tmp_path / FILE).write_text(text)

    remember_host(tmp_path, OTHER)

    assert (tmp_path / FILE).read_bytes() == text.encode()


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\x00"], ids=["empty", "blank", "no UTF-8"])
def test_a_file_that_names_no_host_is_not_taken_for_a_first_start(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)

    problem = problem_of(tmp_path, HOST)

    assert str(tmp_path / FILE) in problem
    assert "write host.name into it" in problem
    assert (tmp_path / FILE).read_bytes() == content


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()

    with pytest.raises(SettingsError, match="cannot be read") as raised:
        remember_host(tmp_path, HOST)

    assert isinstance(raised.value.__cause__, OSError)
    assert raised.value.__cause__.errno == errno.EISDIR


def test_a_full_disk_remembers_nothing_and_stops_nobody(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    code = "import sys; from pathlib import Path; from bringup.daemon.state_directory import remember_host as r; "
    done = subprocess.run(
        [sys.executable, "-c", f"{code}r(Path(sys.argv[1]), sys.argv[2])", str(tmp_path), HOST],
        preexec_fn=limit,
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, b"")
    assert list(tmp_path.iterdir()) == []
    remember_host(tmp_path, HOST)
    assert remembers_host(tmp_path, HOST)


@pytest.mark.parametrize("mode", [0o700, 0o500, 0o710, 0o701, 0o750, 0o755, 0o770], ids=oct)
def test_private_is_what_only_its_owner_can_look_into(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    try:
        assert is_private(tmp_path) == (mode in (0o700, 0o500))
    finally:
        tmp_path.chmod(0o700)


def test_a_check_of_another_hosts_directory_fails_and_goes_on(site: Site) -> None:
    settings = site.settings()
    site.store.parent.mkdir()
    remember_host(site.store.parent, OTHER)

    ended = site.run("check", "--json", *settings)

    failed = [each for each in ended.documents if each["check"] == "settings" and each["status"] == "failed"]
    assert ended.code == os.EX_CONFIG
    assert [each["exit_code"] for each in failed] == [os.EX_CONFIG]
    assert repr(HOST) in failed[0]["message"]
    assert repr(OTHER) in failed[0]["message"]
    assert {"store", "driver", "placement", "scheduler"} <= {each["check"] for each in ended.documents}
    assert remembered(site.store.parent) == f"{OTHER}\n"


def test_who_only_looks_or_imports_neither_minds_nor_remembers(site: Site) -> None:
    settings = site.settings(scenario=Scenario())
    file = site.records([instance(1)])

    assert site.run("import", file, *settings).code == 0
    assert site.run("plan", *settings).code == 0
    site.run("check", *settings)
    assert not (site.store.parent / FILE).exists()

    remember_host(site.store.parent, OTHER)
    assert site.run("import", file, *settings).code == 0
    assert site.run("plan", *settings).code == 0
    assert remembered(site.store.parent) == f"{OTHER}\n"
