"""The real command in a process of its own, and waiting for what it says: never for time to pass."""

import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from support.preloaded import STREAMS, Forked, the_preloaded
from support.surroundings import Within, without_rights_of_root

BRINGUP = (sys.executable, "-m", "bringup")
PATIENCE_S = 60.0
"""How long a test waits for what must come."""
# Nothing that the machine of the tests has set.
OTHERS = ("BRINGUP_", "STATE_DIRECTORY", "RUNTIME_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_")
FORKED_WITH = {"env", "cwd", *STREAMS}
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(OTHERS)}

WITHOUT_ROOTS_RIGHTS = Within(without_rights_of_root)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """Standard output, every line of it JSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    def named(self, name: str) -> list[dict[str, Any]]:
        """Events of a name."""
        return [event for event in self.events if event["event"] == name]

    @property
    def outcomes(self) -> dict[str, str]:
        """What came of each instance, by UUID, from its canonical line."""
        lines = [event for event in self.events if "because" in event and event["event"].startswith("instance.")]
        assert len({line["instance"] for line in lines}) == len(lines), "an instance has two canonical lines"
        return {line["instance"]: line["event"].removeprefix("instance.") for line in lines}


def started(
    arguments: Sequence[str], *, within: Within | None = None, afresh: bool = False, **options: Any
) -> "subprocess.Popen[str] | Forked":
    """Start a command; one that needs nothing else, and not a command line of its own, is spared its imports."""
    options.setdefault("env", ENVIRONMENT)
    if options.keys() <= FORKED_WITH and not afresh and the_preloaded().fits(options["env"]):
        return the_preloaded().start(arguments, within=within, **options)
    wrapper = () if within is None else within.command
    return subprocess.Popen([*wrapper, *BRINGUP, *arguments], text=True, **(STREAMS | options))


class Running:
    """A command that runs; what it writes is taken in while it does."""

    def __init__(self, arguments: Sequence[str], **options: Any) -> None:
        self.process = started(arguments, **options)
        self._out: list[str] = []
        self._err: list[str] = []
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        kept = ((self.process.stdout, self._out), (self.process.stderr, self._err))
        # One that goes elsewhere cannot be read.
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in kept
            if stream is not None
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str], kept: list[str]) -> None:
        for line in stream:
            kept.append(line)
            if kept is self._out:
                self._lines.put(line)
        if kept is self._out:
            self._lines.put("")

    def until(self, event: str, **facts: Any) -> dict[str, Any]:
        """Wait for an event; lines before it are passed over."""
        while line := self._lines.get(timeout=PATIENCE_S):
            found: dict[str, Any] = json.loads(line)
            if found["event"] == event and facts.items() <= found.items():
                return found
        raise AssertionError(f"it ended and never said {event}: {''.join(self._out)} {''.join(self._err)}")

    def end(self, number: signal.Signals | None = None) -> Ended:
        """Send a signal, if one is given; wait for the end."""
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return Ended(code, "".join(self._out), "".join(self._err))

    def close(self) -> None:
        """Leave nothing behind."""
        self.process.kill()
        self.end()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@contextlib.contextmanager
def running(*arguments: str, **options: Any) -> Iterator[Running]:
    """Run a command beside the block."""
    command = Running(arguments, **options)
    try:
        yield command
    finally:
        command.close()


def run(*arguments: str, **options: Any) -> Ended:
    """Run a command to its end."""
    with running(*arguments, **options) as command:
        return command.end()


def children_of(pid: int) -> list[int]:
    """PIDs of the children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cmdlines(pid: int) -> str:
    """Command lines of a process and of all below it."""
    lines = [Path(f"/proc/{pid}/cmdline").read_text()]
    return "\n".join([*lines, *(cmdlines(child) for child in children_of(pid))])


def environments(pid: int) -> str:
    """What those below a process have in their environment, and they on."""
    below = children_of(pid)
    return "\n".join([*(Path(f"/proc/{child}/environ").read_text() for child in below), *map(environments, below)])


def gone(pid: int) -> bool:
    """Wait until a process is gone that is not our child; tell whether it is."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with contextlib.ExitStack() as opened_here:
        opened_here.callback(os.close, descriptor)

        ready, _, _ = select.select([descriptor], [], [], PATIENCE_S)
        return bool(ready)
