"""A booting host waits for the start: what is heavy is loaded when it is used, and Placement is asked first."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bringup import __version__
from support.computer import a_computer
from support.placement import a_peer, an_answer
from support.process import ENVIRONMENT, run

COMMANDS = (
    *("run", "plan", "explain", "check", "import", "demo"),
    *("status", "history", "plot", "release", "accept"),
)
LATER = (
    *(
        "sqlalchemy",
        "rich",
        "bringup.daemon.storage.store.sqlite",
        "bringup.daemon.status.terminal",
        "bringup.drivers.simulated",
    ),
    *("uvicorn", "starlette", "prometheus_client"),
)
LIBRARIES = ("anyio", "asyncio", "httpx", "pydantic", "ssl", "structlog", "tenacity")
"""What a command uses that does something."""
REPORT_MODULES = (
    "import json, sys\n"
    "from bringup.daemon.cli.main import main\n"
    "try:\n    code = main()\n"
    "except SystemExit as end:\n    code = end.code\n"
    "sys.stderr.write('\\n' + json.dumps(sorted(sys.modules)))\n"
    "sys.exit(code)\n"
)


def modules_after(*arguments: str) -> tuple[int, list[str]]:
    """Run a command; return its exit code and what it had imported at its end."""
    code, loaded, _ = written_and_loaded(*arguments)
    return code, loaded


def written_and_loaded(*arguments: str) -> tuple[int, list[str], tuple[str, list[str]]]:
    """Run a command; return its exit code, what it had imported at its end, and what it wrote."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT_MODULES, *arguments],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
        timeout=60,
    )
    *said, modules = done.stderr.splitlines()
    return done.returncode, json.loads(modules), (done.stdout, said)


@pytest.mark.parametrize("arguments", [("--help",), *((command, "--help") for command in COMMANDS)], ids=" ".join)
def test_help_comes_at_once(arguments: tuple[str, ...]) -> None:
    code, loaded, (out, said) = written_and_loaded(*arguments)

    assert (code, said) == (0, [""])
    assert out.startswith("usage: bringup")
    # What takes time is imported: with any of these it would take several times as long.
    assert [name for name in (*LATER, *LIBRARIES) if name in loaded] == []


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version", env=ENVIRONMENT).out == f"bringup {__version__}\n"


def test_before_placement_is_asked_nothing_is_loaded_that_is_not_needed_to_ask(tmp_path: Path) -> None:
    computer = a_computer(tmp_path).guests([])
    with a_peer(an_answer(401, {})) as peer:
        computer.having(
            placement={"url": peer.url}, scheduler={"transport": "http", "url": "http://127.0.0.1:1/reports"}
        )

        code, loaded = modules_after("run", "--once", *computer.arguments)

    assert (code, len(peer.requests)) == (69, 1)
    assert [name for name in LATER if name in loaded] == []


def test_where_settings_are_wrong_nothing_of_the_daemon_is_loaded(tmp_path: Path) -> None:
    computer = a_computer(tmp_path).guests([]).having(limits={"concurrency": 0})

    code, loaded = modules_after("run", *computer.arguments)

    assert code == 78
    assert [name for name in LATER if name in loaded] == []


def test_what_is_loaded_later_is_loaded_by_a_run_that_passes(tmp_path: Path) -> None:
    # Else the tests above would look for names that nothing has.
    code, loaded = modules_after("run", "--once", *a_computer(tmp_path).guests([]).arguments)

    assert code == 0
    assert {"sqlalchemy", "bringup.daemon.storage.store.sqlite", "bringup.drivers.simulated", *LIBRARIES} <= set(loaded)
