"""Runs to report, and schedulers to report to: in a thread, or as a process."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

from bringup.daemon.cli.demo_site.scheduler_receiver import Receiver, ReceiverFaults
from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import Did, Kind, Outcome, RunResult
from bringup.daemon.decisions.states import PowerState, VmState
from bringup.daemon.storage.outbox.base import NotAcknowledged, Transport
from bringup.daemon.storage.outbox.outbox import Delivery, Outbox, retries
from bringup.daemon.storage.outbox.report import Report, build_report

HOST = "compute-1"
OFTEN = retries(initial_s=0.001, max_s=0.01)
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def uuid_of(number: int) -> str:
    return str(uuid.UUID(int=number))


def an_outcome(
    number: int = 1, *, host: str | None = HOST, deleted: bool = False, did: Did = Did.LEFT_RUNNING
) -> Outcome:
    record = Instance(uuid=uuid_of(number), host=host, vm_state=VmState.ACTIVE, power_state=PowerState.RUNNING)
    return Outcome(
        uuid=uuid_of(number),
        kind=Kind.INITIALIZED,
        did=did,
        because=("resume-guest",),
        took_s=0.5,
        instance=None if deleted else record,
        deleted=deleted,
    )


def a_result(
    *outcomes: Outcome, unfinished: tuple[str, ...] = (), error: str | None = None, run: int = 77, revision: int = 0
) -> RunResult:
    return RunResult(
        run_id=uuid_of(run),
        boot_id=uuid_of(88),
        host=HOST,
        outcomes=outcomes,
        unfinished=unfinished,
        took_s=2.5,
        error=error,
        revision=revision,
    )


def a_report(*outcomes: Outcome, minute: int = 0, error: str | None = None) -> Report:
    """Return the report of the run of a minute."""
    return build_report(a_result(*outcomes, error=error, run=77 + minute), created_at=NOON + timedelta(minutes=minute))


def reports(count: int) -> list[Report]:
    """Reports of consecutive minutes, each of another instance, none complete: none supersedes another."""
    return [a_report(an_outcome(number), minute=number, error="stopped") for number in range(count)]


def ids(reports: list[Report]) -> list[str]:
    return [report["report_id"] for report in reports]


@contextlib.contextmanager
def receiver(directory: Path, *, port: int = 0, token: str | None = None, **faults: Any) -> Iterator[Receiver]:
    """A scheduler on loopback, in a thread."""
    server = Receiver(directory, port=port, token=token, faults=ReceiverFaults(**faults))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()


class ReceiverProcess:
    """A scheduler on loopback, as a process of its own."""

    def __init__(self, directory: Path, *options: str) -> None:
        command = [
            sys.executable,
            "-m",
            "bringup.daemon.cli.demo_site.scheduler_receiver",
            "--directory",
            str(directory),
        ]
        self.process = subprocess.Popen([*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.url: str = json.loads(self.process.stdout.readline())["url"]

    def end_by_stdin(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(30)

    def end_by(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(30)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@contextlib.contextmanager
def receiver_process(directory: Path, *options: str) -> Iterator[ReceiverProcess]:
    process = ReceiverProcess(directory, *options)
    try:
        yield process
    finally:
        process.close()


class MemoryTransport:
    """A scheduler in memory: keeps what it acknowledges, raises what it is given first."""

    def __init__(self, *problems: Exception) -> None:
        self.problems = list(problems)
        self.received: list[str] = []

    async def send(self, report: Report) -> None:
        await anyio.lowlevel.checkpoint()
        if self.problems:
            raise self.problems.pop(0)
        self.received.append(report["report_id"])


class Watched:
    """A transport that tells when a report was not acknowledged for the first time."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.failed = anyio.Event()

    async def send(self, report: Report) -> None:
        try:
            await self.transport.send(report)
        except NotAcknowledged:
            self.failed.set()
            raise


class Hanging:
    """A scheduler that never answers."""

    async def send(self, report: Report) -> None:
        del report
        await anyio.sleep_forever()


def waiting(directory: Path) -> list[str]:
    """Names of the reports in an outbox."""
    return sorted(path.name for path in directory.glob("*.json"))


async def until_settled(outbox: Outbox, *some: Report) -> None:
    """Wait until the scheduler has answered for all of them."""
    while any(outbox.delivery(report) not in {Delivery.ACKNOWLEDGED, Delivery.REJECTED} for report in some):
        await anyio.lowlevel.checkpoint()


async def run_until_settled(outbox: Outbox, transport: Transport, *some: Report) -> None:
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: outbox.run_forever(transport, OFTEN))
            await until_settled(outbox, *some)
            group.cancel_scope.cancel()
