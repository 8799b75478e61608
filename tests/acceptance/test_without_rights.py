"""Every command as another user of the host, who may read nothing of bringup's: it ends in a sentence."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bringup.daemon.cli.main import COMMANDS
from support.computer import Computer, a_computer
from support.process import ENVIRONMENT, Ended, run
from support.records import instance, uuid_of
from support.surroundings import Within, nobody

# By command: its arguments, and its exit code where the settings can be read and nothing else can.
ARGUMENTS: dict[str, tuple[tuple[str, ...], int]] = {
    "run": (("--once",), 78),
    "plan": ((), 77),
    "explain": (("--vm-state", "active"), 0),
    "check": ((), 78),
    "status": ((), 69),
    "history": ((), 77),
    "plot": ((), 77),
    "release": ((uuid_of(1),), 77),
    "retry": ((uuid_of(1),), 77),
    "pause": ((), 77),
    "resume": ((), 77),
    "accept": ((), 78),
    "import": (("records.json",), 64),
    "from-nova-conf": (("nova.conf",), 78),
    "demo": (("--help",), 0),
}
STARTED_AFRESH = "run"
"""The one whose imports are made as nobody too."""
WITHOUT_SETTINGS = ("explain", "from-nova-conf", "demo")
NAMES = [
    name
    for command in COMMANDS
    # Two modules have two commands each: release_and_retry, pause_and_resume.
    for name in command.__name__.rpartition(".")[2].replace("import_records", "import").replace("_", "-").split("-and-")
]


@pytest.fixture(scope="module")
def computer() -> Iterator[Computer]:
    """Yield a host that has run once; its settings are everybody's, its state is root's, as after the installation."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else")
    # pytest's own folders are one user's alone.
    with tempfile.TemporaryDirectory(prefix="bringup-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        computer = a_computer(folder).guests((instance(1),)).records((instance(1),))
        assert computer.once().code == 0
        for path, mode in (("state", 0o700), ("records.json", 0o600), ("nova.conf", 0o600)):
            if not (folder / path).exists():
                (folder / path).write_text("")
            (folder / path).chmod(mode)
        yield computer


def run_as_nobody(computer: Computer, name: str, **environment: str) -> Ended:
    """Run a command as the user nobody."""
    return run(
        *(name, *ARGUMENTS[name][0]),
        *(() if name in WITHOUT_SETTINGS or environment else computer.arguments),
        within=Within(nobody),
        afresh=name == STARTED_AFRESH,
        cwd=computer.directory,
        env=ENVIRONMENT | environment,
    )


@pytest.mark.parametrize("name", NAMES)
def test_without_rights_to_the_state_it_ends_in_a_sentence(computer: Computer, name: str) -> None:
    ended = run_as_nobody(computer, name)

    said = ended.out + ended.err
    assert "Traceback" not in said
    assert ended.code == ARGUMENTS[name][1], said
    if ended.code:
        assert any(word in said for word in ("ermission denied", "may not", "by this user"))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WITHOUT_SETTINGS])
def test_without_rights_to_the_settings_it_reports_it_and_who_may(computer: Computer, name: str) -> None:
    closed = computer.directory / "etc"
    closed.mkdir(mode=0o700, exist_ok=True)
    (closed / "bringup.toml").write_text("")

    ended = run_as_nobody(computer, name, BRINGUP_CONFIG=str(closed / "bringup.toml"))

    said = ended.out + ended.err
    assert ended.code == 78, said
    assert f"settings file {closed / 'bringup.toml'} cannot be read (Permission denied)" in said
    assert "run it as root" in said
    assert "Traceback" not in said
