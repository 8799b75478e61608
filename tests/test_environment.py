"""What is started on this host gets no password of ours, and no file that is open here."""

import ast
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from bringup.daemon.cli.demo_site import children
from bringup.daemon.status.endpoint.listeners import OUR_OWN, environment
from bringup.drivers.environment import child_environment
from bringup.drivers.network.commands import Command
from support.process import children_of

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("daemon", "drivers", "placement")
SECRETS = ("OS_PASSWORD", "BRINGUP_PLACEMENT__TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "LD_PRELOAD", "PYTHONPATH")
STARTS = {
    *("subprocess.run", "subprocess.Popen", "subprocess.call", "subprocess.check_call", "subprocess.check_output"),
    *("anyio.run_process", "anyio.open_process", "os.posix_spawn", "os.posix_spawnp", "os.execve", "os.execvpe"),
}
ANSWERS = {"daemon/status/endpoint/listeners.py", "daemon/status/listener/start.py", "daemon/cli/check_machine.py"}
"""What starts the process that answers who asks for the status, a part of this program."""
NEVER = re.compile(r"os\.(system|popen|fork|exec[lv]p?|spawn\w+)$|asyncio\.create_subprocess|pty\.|multiprocessing\.")


def test_only_what_a_program_needs_is_handed_on() -> None:
    ours = dict.fromkeys(SECRETS, "s3cr3t") | {"PATH": "/bin", "LC_ALL": "de_DE.UTF-8", "OVS_RUNDIR": "/run/ovs"}
    assert child_environment(ours) == {"PATH": "/bin", "OVS_RUNDIR": "/run/ovs", "LC_ALL": "C"}


@pytest.mark.parametrize(
    ("path", "kept"), [(".:/bin::bin:/usr/bin:", "/bin:/usr/bin"), ("", ""), ("~/bin:/sbin", "/sbin")]
)
def test_no_program_is_looked_for_where_we_happen_to_be(path: str, kept: str) -> None:
    assert child_environment({"PATH": path})["PATH"] == kept


def test_without_a_path_it_is_that_of_the_system() -> None:
    assert child_environment({})["PATH"] == os.defpath


def calls(source: str) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def unclean(source: str) -> list[str]:
    """Find what starts a program with another environment."""
    found = []
    for name, call in calls(source):
        given = {word.arg: ast.unparse(word.value) for word in call.keywords}
        lends = "pass_fds" in given or given.get("close_fds", "True") != "True"
        if NEVER.match(name) or (name in STARTS and (lends or "child_environment(" not in given.get("env", ""))):
            found.append(ast.unparse(call))
    return found


def test_every_program_is_started_with_it_and_without_our_files() -> None:
    sources = [path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")]
    started = [name for path in sources for name, _ in calls(path.read_text()) if name in STARTS]

    assert len(started) >= 4
    found = {path.relative_to(REPOSITORY).as_posix(): unclean(path.read_text()) for path in sources}
    assert {path for path, calls in found.items() if calls} == ANSWERS
    # It has two files: where it listens, and the pipe; what its environment has besides is where Python finds it.
    [keeper], [tried] = found["daemon/status/endpoint/listeners.py"], found["daemon/cli/check_machine.py"]
    assert environment() == child_environment() | {"PYTHONPATH": OUR_OWN}
    assert "env=environment()" in keeper
    assert "pass_fds=descriptors" in keeper
    # To try how it can be confined, it has neither.
    assert "env=environment()" in tried
    assert "pass_fds" not in tried
    # It begins itself again, with what it was given.
    assert found["daemon/status/listener/start.py"] == ["os.execv(sys.executable, [*sys.orig_argv, AGAIN])"]


@pytest.mark.parametrize(
    "source",
    [
        "subprocess.run(x)",
        "subprocess.Popen(x, env=os.environ)",
        "anyio.run_process(x, env=child_environment(), pass_fds=(3,))",
        "subprocess.run(x, env=child_environment(), close_fds=False)",
        "os.system(x)",
    ],
)
def test_one_that_is_started_otherwise_would_be_noticed(source: str) -> None:
    assert unclean(source) == [source]


SEES = f"""#!{sys.executable}
import json, os, sys
here = os.path.dirname(os.path.abspath(sys.argv[0]))
files = sorted(int(name) for name in os.listdir("/proc/self/fd"))
# The last one is of the look itself.
seen = {{"environment": open("/proc/self/environ").read(), "files": files[:-1]}}
json.dump(seen, open(os.path.join(here, "seen"), "w"))
print("x=y")
"""


def the_network(program: str) -> None:
    command = Command(
        program=program,
        package="p",
        deadline_s=60,
        service="nothing",
        unavailable_text=re.compile("$^"),
        remedy="",
        remedy_access="",
    )
    anyio.run(command.run, [])


@pytest.mark.parametrize("program", ["nft", "ovs-vsctl"])
def test_a_program_sees_no_secret_of_ours_and_no_open_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "s3cr3t")
    (tmp_path / program).write_text(SEES)
    (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with tempfile.TemporaryFile() as secret:
        # Also one that a library has opened without care.
        os.set_inheritable(secret.fileno(), True)  # noqa: FBT003 - Python's own

        the_network(program)

    seen = json.loads((tmp_path / "seen").read_text())
    names = {each.partition("=")[0] for each in seen["environment"].split("\0") if each}
    assert names <= {"PATH", "LC_ALL", "TMPDIR", "DBUS_SYSTEM_BUS_ADDRESS"}
    assert "s3cr3t" not in seen["environment"]
    assert seen["files"] == [0, 1, 2]


def test_neither_does_a_child_of_the_demonstration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OS_PASSWORD", "BRINGUP_PLACEMENT__TOKEN"):
        monkeypatch.setenv(name, "s3cr3t")

    with children.serving("bringup.daemon.cli.demo_site.scheduler_receiver", ["--directory", str(tmp_path)]) as url:
        [child] = [
            pid
            for pid in children_of(os.getpid())
            if b"scheduler_receiver" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        assert url.startswith("http://")
        assert b"s3cr3t" not in Path(f"/proc/{child}/environ").read_bytes()
