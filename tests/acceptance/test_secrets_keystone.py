"""What Keystone is told and what it gives is shown by nothing and to nobody, wherever it is read from."""

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.computer import Computer, a_computer
from support.keystone import PASSWORD, REGION, Cloud, a_cloud
from support.placement import a_peer, an_answer
from support.process import ENVIRONMENT, Ended, cmdlines, environments, run
from support.records import instance
from support.scheduler import receiver
from support.status import socket_client

pytestmark = pytest.mark.timeout(180)

FERNET = b"gAAAA"
"""How every token of Keystone begins."""


@dataclass
class LoggingIn:
    """A host that logs in to the real Keystone, what it is told with, and everything that it shows."""

    computer: Computer
    cloud: Cloud
    environment: dict[str, str]
    arguments: tuple[str, ...] = ()
    shown: list[bytes] = field(default_factory=list)

    def write_file(self, name: str, text: str) -> str:
        path = self.computer.directory / name
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    def show(self, *ended: Ended) -> None:
        self.shown += [f"{one.out}\n{one.err}".encode() for one in ended]

    def command(self, name: str, *arguments: str) -> Ended:
        ended = run(name, *self.computer.arguments, *arguments, *self.arguments, env=self.environment)
        self.show(ended)
        return ended

    def assert_secret(self, *more: str) -> None:
        """Search for what is secret in all that was shown and in every file of the state directory."""
        files = [path for path in self.computer.state.rglob("*") if path.is_file()]
        everything = b"\n".join([*self.shown, *(path.read_bytes() for path in files)])
        for secret in (PASSWORD, json.dumps(PASSWORD)[1:-1], *more):
            assert secret.encode() not in everything
        assert FERNET not in everything


@pytest.fixture
def logging_in(tmp_path: Path) -> LoggingIn:
    environment = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("OS_")}
    computer = a_computer(tmp_path).guests([instance(1)]).records([instance(1)]).having(log={"level": "debug"})
    computer.having(placement={"url": None, "region": REGION, "auth": "keystone", "wait": 60, "read_timeout": 60})
    return LoggingIn(computer, a_cloud(), {**environment, "HOME": str(tmp_path)})


def own_password(host: LoggingIn) -> str:
    file = host.write_file("password", PASSWORD + "\n")
    host.computer.having(
        keystone={
            "auth_url": host.cloud.auth_url,
            "username": "admin",
            "project_name": "admin",
            "password_file": file,
        }
    )
    return PASSWORD


def own_application_credential(host: LoggingIn) -> str:
    uid, _, secret = host.cloud.an_application_credential()
    host.computer.having(
        keystone={
            "auth_url": host.cloud.auth_url,
            "auth_type": "application_credential",
            "application_credential_id": uid,
            "application_credential_secret_file": host.write_file("secret", secret),
        }
    )
    return secret


def own_token(host: LoggingIn) -> str:
    token = host.cloud.token()
    host.computer.having(
        keystone={
            "auth_url": host.cloud.auth_url,
            "auth_type": "token",
            "project_name": "admin",
            "token_file": host.write_file("keystone.token", token),
        }
    )
    return token


def openrc(host: LoggingIn) -> str:
    host.environment |= {
        "OS_AUTH_URL": host.cloud.auth_url,
        "OS_USERNAME": "admin",
        "OS_PASSWORD": PASSWORD,
        "OS_PROJECT_NAME": "admin",
        "OS_USER_DOMAIN_ID": "default",
        "OS_PROJECT_DOMAIN_ID": "default",
    }
    return PASSWORD


def novas(host: LoggingIn) -> str:
    lines = f"auth_type = password\nauth_url = {host.cloud.auth_url}\nusername = admin\nproject_name = admin\n"
    domains = "user_domain_id = default\nproject_domain_id = default\n"
    host.arguments = (
        "--nova-conf",
        host.write_file("nova.conf", f"[placement]\n{lines}{domains}password = {PASSWORD}\n"),
    )
    return PASSWORD


WAYS: dict[str, Callable[[LoggingIn], str]] = {
    "password": own_password,
    "application credential": own_application_credential,
    "token": own_token,
    "OS_*": openrc,
    "nova.conf": novas,
}
ways = pytest.mark.parametrize("given", WAYS.values(), ids=WAYS.keys())


@ways
def test_nothing_shows_how_it_logs_in(logging_in: LoggingIn, given: Callable[[LoggingIn], str]) -> None:
    host, directory = logging_in, logging_in.computer.directory
    secret = given(host)
    with receiver(directory / "scheduler") as scheduler:
        host.computer.having(scheduler={"transport": "http", "url": f"{scheduler.url}/reports"})
        with host.computer.stay(*host.arguments, env=host.environment, afresh=True) as daemon:
            daemon.until("service.ready")
            pid = daemon.process.pid
            with socket_client(host.computer) as client:
                assert client.get("/readyz").status_code == 200
            host.shown += [cmdlines(pid).encode(), environments(pid).encode()]
            ended = daemon.end(signal.SIGTERM)
        host.shown.append(str(scheduler.reports).encode())
    host.show(ended)

    # It was let in, so the secret was right and there was a token.
    assert ended.code == 0
    assert ended.named("placement.passed")
    # With debug on, each request is in the log.
    assert ended.named("placement.request")
    assert host.command("check", "--json").code == 0
    for command in (("history", "--json"), ("plan",)):
        assert host.command(*command).out
    host.assert_secret(secret)


@ways
@pytest.mark.parametrize("style", [("--json",), ()], ids=["json", "words"])
def test_nothing_shows_what_is_refused(
    logging_in: LoggingIn, given: Callable[[LoggingIn], str], style: tuple[str, ...]
) -> None:
    host = logging_in
    secret = given(host)
    with a_peer(an_answer(401, {"error": {"message": f"who is {secret}?"}}, www_authenticate=secret)) as keystone:
        # Wherever the address of Keystone is said.
        for file in (*host.computer.directory.glob("nova.conf"),):
            file.write_text(file.read_text().replace(host.cloud.auth_url, keystone.url))
        if "keystone" in host.computer.sections:
            host.computer.having(keystone={"auth_url": keystone.url})
        host.environment |= {name: keystone.url for name in host.environment if name == "OS_AUTH_URL"}
        refused = [host.command("check", *style), host.command("run", "--once", *style)]

    assert [ended.code for ended in refused] == [69, 69]
    assert keystone.requests
    assert "does not let" in refused[0].out
    host.assert_secret(secret)
