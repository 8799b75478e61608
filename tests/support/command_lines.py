"""Runs commands as a person does, in this process or in one of its own, and keeps what came of them."""

import contextlib
import json
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from bringup.daemon.cli.main import main
from bringup.daemon.decisions.instances import Instance, Migration
from bringup.daemon.storage.record_files import Records, dump_records
from bringup.drivers.simulated import Scenario, dump_scenario
from support import process
from support.records import HOST


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def documents(self) -> list[dict[str, Any]]:
        """Standard output as JSON lines."""
        return [json.loads(line) for line in self.lines]


@dataclass(frozen=True)
class Site:
    """A host's files in a directory, and its commands."""

    directory: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def store(self) -> Path:
        return self.directory / "state" / "instances.sqlite"

    def settings(self, text: str = "", *, scenario: Scenario | None = None) -> list[str]:
        """Write a settings file; return the arguments that name it."""
        lines = ["[host]", f'name = "{HOST}"', f"state_directory = {json.dumps(str(self.directory / 'state'))}", text]
        if scenario is not None:
            path = self.directory / "scenario.json"
            path.write_text(dump_scenario(scenario))
            lines += ["[driver]", f"scenario = {json.dumps(str(path))}"]
        config = self.directory / "bringup.toml"
        config.write_text("\n".join(lines))
        return ["-c", str(config)]

    def records(
        self, instances: Sequence[Instance], migrations: Sequence[Migration] = (), *, name: str = "records.json"
    ) -> str:
        """Write a file of records; return its path."""
        path = self.directory / name
        path.write_text(dump_records(Records(instances=tuple(instances), migrations=tuple(migrations))))
        return str(path)

    def run(self, *arguments: str) -> Ended:
        """Run a command in this process."""
        self.capsys.readouterr()
        try:
            code = main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            # A command says where its log goes; what that is here is gone after the test.
            structlog.reset_defaults()
        out, err = self.capsys.readouterr()
        return Ended(code, out, err)

    def run_process(self, *arguments: str, stdin: bytes = b"") -> Ended:
        """Run a command in a process of its own."""
        reads, writes = os.pipe()
        fed = threading.Thread(target=_feed, args=(writes, stdin))
        fed.start()
        with os.fdopen(reads, "rb") as given:
            ended = process.run(*arguments, stdin=given)
        fed.join()
        return Ended(ended.code, ended.out, ended.err)


def _feed(descriptor: int, content: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), os.fdopen(descriptor, "wb") as stdin:
        stdin.write(content)
