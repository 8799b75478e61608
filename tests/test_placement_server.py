import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx

import bringup
from support.placement import SERVER, start_placement
from support.polling import PATIENCE_S
from support.preloaded import Forked

ROOT = Path(bringup.__file__).parent.parent
ADMIN = {"X-Auth-Token": "admin", "OpenStack-API-Version": "placement 1.20"}


def end(process: "subprocess.Popen[str] | Forked") -> tuple[str, str | None]:
    """Close its stdin and wait; return what else it wrote."""
    rest, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    return rest, errors


def test_it_serves_until_its_stdin_ends_and_leaves_stdout_and_stderr_alone() -> None:
    process, url = start_placement(afresh=True, stderr=subprocess.PIPE)
    assert httpx.get(url + "/", timeout=PATIENCE_S).json()["versions"][0]["max_version"] == "1.39"
    assert httpx.get(url + "/resource_providers", timeout=PATIENCE_S).status_code == 401
    assert httpx.get(url + "/resource_providers", headers=ADMIN, timeout=PATIENCE_S).json() == {
        "resource_providers": []
    }
    assert httpx.post(url + "/resource_providers", headers=ADMIN, content=b"{", timeout=PATIENCE_S).status_code == 400
    assert end(process) == ("", "")


def test_sigterm_ends_it() -> None:
    process, _ = start_placement(afresh=True, stderr=subprocess.PIPE)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
    assert end(process) == ("", "")


def test_it_ends_with_its_parent_also_when_its_stdin_stays_open() -> None:
    between = "import subprocess, sys; subprocess.Popen(sys.argv[1:]).wait()"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        parent = subprocess.Popen(
            [sys.executable, "-c", between, *SERVER], stdin=theirs.fileno(), stdout=subprocess.PIPE
        )
        assert parent.stdout is not None
        with parent.stdout:
            assert b"url" in parent.stdout.readline()
            parent.kill()
            parent.wait()
            # It ends when the last process that could write to it is gone: pytest's timeout bounds this.
            assert parent.stdout.read() == b""


def test_the_database_outlives_it_and_is_private(tmp_path: Path) -> None:
    database = tmp_path / "placement.sqlite"
    for expected in (200, 409):
        process, url = start_placement("--database", str(database))
        posted = httpx.post(url + "/resource_providers", headers=ADMIN, json={"name": "compute-1"}, timeout=PATIENCE_S)
        assert posted.status_code == expected
        end(process)
    assert stat.S_IMODE(database.stat().st_mode) == 0o600


def test_neither_files_nor_variables_of_this_machine_reach_it(tmp_path: Path) -> None:
    (tmp_path / ".placement").mkdir()
    (tmp_path / ".placement" / "placement.conf").write_text("[api]\nauth_strategy = keystone\n")
    (tmp_path / ".placement" / "policy.yaml").write_text('"placement:resource_providers:list": "!"\n')
    environment = os.environ | {
        "HOME": str(tmp_path),
        "OS_API__AUTH_STRATEGY": "keystone",
        "OS_PLACEMENT_DATABASE__CONNECTION": f"sqlite:///{tmp_path}/real.sqlite",
    }
    process, url = start_placement(afresh=True, env=environment)
    assert httpx.get(url + "/resource_providers", headers=ADMIN, timeout=PATIENCE_S).status_code == 200
    end(process)
    assert not (tmp_path / "real.sqlite").exists()


def test_it_finds_the_right_placement_in_our_own_repository() -> None:
    process, url = start_placement(afresh=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert httpx.get(url + "/", timeout=PATIENCE_S).status_code == 200
    end(process)


def test_what_placement_logs_goes_to_a_file_if_one_is_named(tmp_path: Path) -> None:
    log = tmp_path / "placement.log"
    process, url = start_placement("--log", str(log), stderr=subprocess.PIPE)
    httpx.get(url + "/resource_providers", headers=ADMIN | {"X-Auth-Token": "someuser"}, timeout=PATIENCE_S)
    assert end(process) == ("", "")
    assert log.exists()


def test_without_the_extra_it_names_what_to_install() -> None:
    result = subprocess.run(
        [sys.executable, "-S", *SERVER[1:]],
        env={"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == os.EX_UNAVAILABLE
    assert result.stdout == ""
    assert result.stderr == (
        "cannot serve Placement: oslo_config is not installed; in the checkout, .venv/bin/pip install '.[demo]'\n"
    )


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = subprocess.run(
            [*SERVER, "--port", str(port)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    assert result.returncode == os.EX_UNAVAILABLE
    assert f"cannot listen on port {port} of 127.0.0.1" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_database_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    result = subprocess.run(
        [*SERVER, "--database", str(tmp_path / "missing" / "x.sqlite")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert f"cannot write to {tmp_path / 'missing'}" in result.stderr
