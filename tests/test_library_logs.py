"""What libraries say never stands between our own lines."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bringup.daemon.log_rate_limit import MOST
from support.placement import nobody
from support.process import ENVIRONMENT, run
from support.records import uuid_of
from support.settings_files import given_text

SAYS = """
import gc, logging, sys, warnings
from bringup.daemon import library_logs, logs
{configured}
library_logs.keep_out()
logging.getLogger("aiormq.connection").warning("cannot connect to amqp://nova:a/s3cr3t@b@s3cr3t@host: \\x1b[2J")
logging.getLogger("asyncio").error("Task exception was never retrieved", exc_info=ValueError("s3cr3t"))
logging.getLogger("uvicorn.error").critical("gone")
warnings.warn("old", RuntimeWarning)

async def never():
    pass

class Broken:
    def __del__(self):
        raise OSError("at the end")

never()
Broken()
gc.collect()
"""


def run_child(configured: str) -> "subprocess.CompletedProcess[str]":
    script = SAYS.format(configured=configured)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=ENVIRONMENT, check=True)


def test_before_there_is_a_log_nobody_receives_it() -> None:
    ended = run_child("")
    assert (ended.stdout, ended.stderr) == ("", "")


@pytest.mark.parametrize(("level", "count"), [("info", 0), ("debug", 6)])
def test_it_is_in_the_log_for_who_debugs_and_shows_no_password(level: str, count: int) -> None:
    ended = run_child(f'logs.configure(level="{level}", style="json")')
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert ended.stderr == ""
    assert [line["event"] for line in lines] == ["library.message"] * count
    assert "s3cr3t" not in ended.stdout
    assert all(line["message"].isprintable() for line in lines)


@pytest.mark.parametrize("command", [("plan",), ("check",), ("run", "--once")], ids=" ".join)
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_where_rabbitmq_is_away_there_is_one_sentence_that_begins_with_it(
    tmp_path: Path, command: tuple[str, ...], host: str
) -> None:
    with nobody() as url:
        port = url.rpartition(":")[2]
        secret = given_text(tmp_path / "url", f"rabbit://nova:s3cr3t@{host}:{port}/\n")
        secret.chmod(0o600)
        config = given_text(
            tmp_path / "bringup.toml",
            f'[host]\nstate_directory = "{tmp_path}/state"\nnode_uuid = "{uuid_of(1)}"\n'
            f'[store]\nurl = "nova-conductor:"\n[messaging]\ntransport_url_file = "{secret}"\ndeadline = 1\n'
            f'[placement]\nurl = "{url}"\nwait = 0\n[driver]\nscenario = "{tmp_path}/scenario.json"\n',
        )
        given_text(tmp_path / "scenario.json", '{"format": "bringup.scenario/1"}')
        words, lines = (run(*command, *as_json, "-c", str(config)) for as_json in ((), ("--json",)))

    assert words.code not in (os.EX_OK, 1)
    if command != ("run", "--once"):  # Placement is asked before
        sentence = f"RabbitMQ at {host}:{port} does not answer"
        assert sentence in words.out + words.err
        assert "nova-conductor did not answer" not in words.out + words.err
    assert all(line.startswith("bringup: ") for line in words.err.splitlines())
    assert all(json.loads(line) for line in (lines.out + lines.err).splitlines())
    for text in (words.out + words.err, lines.out + lines.err):
        assert "s3cr3t" not in text
        assert "cancel scope" not in text
        assert "never awaited" not in text


def test_however_much_a_library_says_only_so_much_of_it_is_in_the_log() -> None:
    script = (
        "import logging\nfrom bringup.daemon import library_logs, logs\n"
        'logs.configure(level="debug", style="json")\nlibrary_logs.keep_out()\n'
        "for number in range(5000):\n"
        '    logging.getLogger("asyncio").error("socket.accept() out of system resource", exc_info=OSError(24, "x"))\n'
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=ENVIRONMENT, check=True)

    assert ended.stderr == ""
    assert len(ended.stdout.splitlines()) == MOST
