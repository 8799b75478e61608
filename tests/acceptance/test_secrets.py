"""Tokens go to Placement and the scheduler, and to nobody and nothing else, whatever goes wrong."""

import contextlib
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bringup.drivers.simulated import Fault
from support.computer import Computer, a_computer
from support.placement import DOCUMENT, Peer, a_peer, an_answer, nobody
from support.process import ENVIRONMENT, cmdlines, run
from support.records import instance, uuid_of
from support.scheduler import receiver
from support.status import socket_client

HANGS = Fault(verb="plug_vifs", uuid=uuid_of(1), hang=True)


@dataclass
class Secret:
    """A host whose two tokens nobody can guess."""

    computer: Computer
    in_files: bool
    placement: str = field(default_factory=lambda: f"admin:{secrets.token_hex(16)}")
    scheduler: str = field(default_factory=lambda: secrets.token_hex(16))

    def settle(self) -> None:
        """Set the tokens, in the settings or in files."""
        for section, token in (("placement", self.placement), ("scheduler", self.scheduler)):
            file = self.computer.directory / f"{section}.token"
            if self.in_files:
                file.write_text(token + "\n")
                file.chmod(0o600)
                self.computer.having(**{section: {"token_file": str(file)}})
            else:
                self.computer.having(**{section: {"token": token}})

    def assert_nowhere(self, *texts: str) -> None:
        """Search for them, and for what is secret in them, in texts and in every file of the state directory."""
        files = [path.read_bytes() for path in self.computer.state.rglob("*") if path.is_file()]
        everything = b"\n".join([*files, *(text.encode() for text in texts)])
        for token in (self.placement.removeprefix("admin:"), self.scheduler):
            assert token.encode() not in everything


@pytest.fixture
def secret(tmp_path: Path, request: pytest.FixtureRequest) -> Secret:
    """In the settings; parametrized with True, in files."""
    computer = a_computer(tmp_path).guests([instance(1)]).records([instance(1)]).having(log={"level": "debug"})
    secret = Secret(computer, in_files=getattr(request, "param", False))
    secret.settle()
    return secret


both_ways = pytest.mark.parametrize("secret", [False, True], ids=["tokens", "token files"], indirect=True)


@both_ways
def test_a_run_that_succeeds_shows_none(secret: Secret) -> None:
    directory = secret.computer.directory
    with receiver(directory / "scheduler", token=secret.scheduler) as scheduler:
        secret.computer.having(scheduler={"transport": "http", "url": f"{scheduler.url}/reports"})
        with secret.computer.stay(afresh=True) as daemon:
            daemon.until("service.ready")
            with socket_client(secret.computer) as client:
                answers = [client.get(path).text for path in ("/", "/readyz", "/status", "/timeline", "/metrics")]
            shown = cmdlines(daemon.process.pid)
            ended = daemon.end(signal.SIGTERM)

        # The token was right, so it was sent.
        assert len(scheduler.reports) == 1
    assert ended.code == 0
    assert all(answers)
    assert "bringup.daemon.status.listener" in shown
    secret.assert_nowhere(shown, ended.out, ended.err, str(scheduler.reports), *answers)


def echoing(status: int) -> Callable[[str], AbstractContextManager[Peer]]:
    """A server that repeats the token in its refusal, as some proxies do with headers."""

    def serve(token: str) -> AbstractContextManager[Peer]:
        refusal = an_answer(status, f"<html><title>{token}</title>{token}</html>".encode(), x_auth_token=token)
        return a_peer(an_answer(content=DOCUMENT), refusal)

    return serve


@contextlib.contextmanager
def refusing(token: str) -> Iterator[Peer]:
    del token
    with nobody() as url:
        yield Peer(answers=(), url=url, ended=threading.Event())


@pytest.mark.parametrize(
    ("server", "style"),
    [(echoing(401), ()), (echoing(500), ("--json",)), (refusing, ())],
    ids=["401", "500 as JSON", "refused"],
)
def test_a_placement_that_refuses_brings_none_out(
    secret: Secret, server: Callable[[str], AbstractContextManager[Peer]], style: tuple[str, ...]
) -> None:
    with server(secret.placement) as peer:
        secret.computer.having(placement={"url": peer.url, "wait": 0.3})

        ended = secret.computer.once(*style)

    assert ended.code == 69
    secret.assert_nowhere(ended.out, ended.err)


@pytest.mark.parametrize("status", [401, 422, 503], ids=str)
def test_a_scheduler_that_refuses_brings_none_out(secret: Secret, status: int) -> None:
    words = f"who is {secret.scheduler}?".encode()
    with a_peer(an_answer(status, words, location=secret.scheduler)) as peer:
        secret.computer.having(scheduler={"transport": "http", "url": f"{peer.url}/reports"})

        ended = secret.computer.run()

    assert secret.scheduler in peer.requests[0]
    assert ended.named("run.ended")
    secret.assert_nowhere(ended.out, ended.err)


@both_ways
@pytest.mark.parametrize("style", [("--json",), ()], ids=["json", "words"])
def test_wrong_settings_next_to_them_bring_none_out(secret: Secret, style: tuple[str, ...]) -> None:
    secret.computer.having(
        limits={"concurrency": 0},
        placement={"url": "ftp://x", "tokens": secret.in_files},
        scheduler={"transport": "http"},
    )

    ended = secret.computer.once(*style)

    assert ended.code == 78
    assert "placement.tokens" in ended.err
    secret.assert_nowhere(ended.out, ended.err)


def test_a_token_that_is_of_no_use_is_not_shown_by_the_warning(secret: Secret) -> None:
    ended = secret.computer.having(placement={"auth": "none"}).run()

    assert ended.code == 69
    assert "placement.token" in ended.named("settings.warning")[0]["warning"]
    secret.assert_nowhere(ended.out, ended.err)


@pytest.mark.parametrize("command", ["check", "plan"])
def test_other_commands_show_none(secret: Secret, command: str) -> None:
    ended = run(command, "--json", *secret.computer.arguments, env=ENVIRONMENT)

    assert ended.out
    secret.assert_nowhere(ended.out, ended.err)


def test_a_run_that_is_killed_leaves_none_behind(secret: Secret) -> None:
    secret.computer.guests([instance(1)], HANGS)
    with secret.computer.stay(afresh=True) as daemon:
        daemon.until("placement.passed")
        daemon.end(signal.SIGTERM)
        ended = daemon.end()

    secret.assert_nowhere(ended.out, ended.err)


@both_ways
def test_a_token_that_no_header_can_hold_is_not_repeated(secret: Secret) -> None:
    if secret.in_files:
        (secret.computer.directory / "placement.token").write_text(f"{secret.placement} {secret.scheduler}\n")
    else:
        secret.computer.having(placement={"token": f"{secret.placement} {secret.scheduler}"})

    ended = secret.computer.once()

    assert ended.code == 78
    assert "placement.token" in ended.err
    secret.assert_nowhere(ended.out, ended.err)
