"""A daemon that is killed and started again logs in no second time; its token is for its user alone."""

import json
import signal
import stat
from pathlib import Path

import pytest

from support.computer import a_computer
from support.faulty_proxy import a_proxy
from support.keystone import PASSWORD, REGION, a_cloud
from support.process import ENVIRONMENT, run
from support.records import instance

pytestmark = pytest.mark.timeout(240)

LOGIN = "POST /v3/auth/tokens"


def test_the_token_of_a_killed_daemon_is_used_again_and_is_shown_by_nothing(tmp_path: Path) -> None:
    cloud, runtime = a_cloud(), tmp_path / "run"
    runtime.mkdir(mode=0o755)
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "password").chmod(0o600)
    computer = a_computer(tmp_path).guests([instance(1)]).records([instance(1)]).having(log={"level": "debug"})
    environment = ENVIRONMENT | {"RUNTIME_DIRECTORY": str(runtime)}
    with a_proxy(cloud.auth_url.removesuffix("/v3")) as keystone:
        computer.having(
            placement={"url": None, "region": REGION, "auth": "keystone", "wait": 60, "read_timeout": 60},
            keystone={
                "auth_url": keystone.url,
                "username": "admin",
                "project_name": "admin",
                "password_file": str(tmp_path / "password"),
            },
        )
        shown = []
        for number in (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM):
            with computer.stay(env=environment) as daemon:
                daemon.until("service.ready")
                shown.append(daemon.end(number))
        # A command is another process: it neither uses the login of the service nor leaves one.
        before = logins(keystone.requests)
        assert run("check", *computer.arguments, env=environment).code == 0
        after = logins(keystone.requests)

    assert (before, after) == (1, 2)
    assert [ended.named("keystone.kept_login") != [] for ended in shown] == [False, True, True]
    [kept] = [path for path in runtime.rglob("*") if not path.is_dir()]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    token = json.loads(kept.read_text())["token"]
    state = [path.read_bytes() for path in computer.state.rglob("*") if path.is_file()]
    everything = b"\n".join([*state, *(f"{ended.out}{ended.err}".encode() for ended in shown)])
    assert token
    assert token.encode() not in everything
    assert PASSWORD not in kept.read_text()


def logins(requests: list[str]) -> int:
    return sum(" ".join(head.split()[:2]) == LOGIN for head in requests)
