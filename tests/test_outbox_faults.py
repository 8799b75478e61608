import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from bringup.daemon.openstack.scheduler_http import HttpTransport
from bringup.daemon.storage.outbox.outbox import Delivery, Outbox, OutboxError
from bringup.daemon.storage.outbox.report import Report
from support.polling import PATIENCE_S
from support.ports import free_port
from support.scheduler import (
    OFTEN,
    Hanging,
    MemoryTransport,
    Watched,
    a_report,
    ids,
    receiver,
    reports,
    run_until_settled,
    until_settled,
    waiting,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


@pytest.fixture
def in_the_way(directory: Path) -> Path:
    """A file where the directory should be: not a matter of modes, so it stops root too."""
    directory.write_text("in the way")
    return directory


async def test_a_report_that_cannot_be_written_is_sent_from_memory(in_the_way: Path) -> None:
    outbox, transport = Outbox(in_the_way), MemoryTransport()
    with pytest.raises(OutboxError):
        await outbox.put(a_report())
    assert outbox.delivery(a_report()) is Delivery.IN_MEMORY
    await outbox.drain(transport, timeout_s=30)
    assert transport.received == ids([a_report()])
    assert outbox.delivery(a_report()) is Delivery.ACKNOWLEDGED


async def test_a_report_in_memory_is_written_once_possible_and_keeps_its_place(in_the_way: Path) -> None:
    outbox = Outbox(in_the_way)
    first, second = reports(2)
    with pytest.raises(OutboxError):
        await outbox.put(first)
    await anyio.Path(in_the_way).unlink()
    await outbox.put(second)
    assert outbox.delivery(first) is Delivery.KEPT
    transport = MemoryTransport()
    await Outbox(in_the_way).drain(transport, timeout_s=30)
    assert transport.received == ids([first, second])


async def test_a_report_in_memory_is_written_before_it_is_sent_once_possible(in_the_way: Path) -> None:
    outbox = Outbox(in_the_way)
    with pytest.raises(OutboxError):
        await outbox.put(a_report())
    await anyio.Path(in_the_way).unlink()
    assert isinstance(await outbox.drain(Hanging(), timeout_s=0.05), TimeoutError)
    assert (outbox.delivery(a_report()), len(waiting(in_the_way))) == (Delivery.KEPT, 1)


async def test_a_report_in_memory_does_not_overtake_those_on_disk(directory: Path) -> None:
    first, second = reports(2)
    outbox, transport = Outbox(directory), MemoryTransport()
    await outbox.put(first)
    # A directory in the way of the draft: this one file cannot be written, the others can be read.
    (directory / f".20261123T120100.000000Z-{second['report_id']}.tmp").mkdir()
    with pytest.raises(OutboxError):
        await outbox.put(second)
    assert await outbox.drain(transport, timeout_s=30) is None
    assert transport.received == ids([first, second])


class CancelsAt:
    """Cancels a scope at the n-th step of sending."""

    def __init__(self, step: int, scope: anyio.CancelScope) -> None:
        self.step, self.scope = step, scope
        self.received: list[str] = []

    async def send(self, report: Report) -> None:
        if self.step == 0:
            self.scope.cancel()
        await anyio.lowlevel.checkpoint()
        self.received.append(report["report_id"])
        if self.step == 1:
            self.scope.cancel()


@pytest.mark.parametrize(
    ("step", "arrived"), [(0, False), (1, True)], ids=["before it arrives", "right after it arrived"]
)
async def test_a_cancelled_send_loses_nothing(directory: Path, step: int, *, arrived: bool) -> None:
    outbox = Outbox(directory)
    await outbox.put(a_report())
    with anyio.CancelScope() as scope:
        transport = CancelsAt(step, scope)
        await outbox.run_forever(transport, OFTEN)
    assert scope.cancelled_caught
    assert transport.received == (ids([a_report()]) if arrived else [])
    again = MemoryTransport()
    await Outbox(directory).drain(again, timeout_s=30)
    assert a_report()["report_id"] in transport.received + again.received


async def test_a_receiver_that_starts_later_gets_the_waiting_reports(directory: Path, tmp_path: Path) -> None:
    port = free_port()
    outbox = Outbox(directory)
    await outbox.put(a_report())
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as client:
        watched = Watched(HttpTransport(client, f"http://127.0.0.1:{port}/reports"))
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: outbox.run_forever(watched, OFTEN))
                await watched.failed.wait()
                with receiver(tmp_path / "receiver", port=port) as scheduler:
                    await until_settled(outbox, a_report())
                    group.cancel_scope.cancel()
                    assert scheduler.reports == [a_report()]
    assert waiting(directory) == []


@pytest.mark.parametrize(
    "faults",
    [{"fail_first": 2}, {"drop_first": 1}, {"hang_first": 1}],
    ids=["503 twice", "acknowledgement lost", "hangs once"],
)
async def test_a_receiver_that_fails_at_first_gets_each_report_once(
    directory: Path, tmp_path: Path, faults: dict[str, Any]
) -> None:
    outbox = Outbox(directory)
    for report in reports(3):
        await outbox.put(report)
    with receiver(tmp_path / "receiver", **faults) as scheduler:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as client:
            timeout_s = 0.1 if "hang_first" in faults else 10
            watched = Watched(HttpTransport(client, f"{scheduler.url}/reports", timeout_s=timeout_s))
            await run_until_settled(outbox, watched, *reports(3))
        assert watched.failed.is_set()
        assert scheduler.reports == reports(3)
    assert waiting(directory) == []


CHILD = """
import json, os, signal, sys
from pathlib import Path
import anyio
from bringup.daemon.storage.outbox.outbox import Outbox

class Killed:
    async def send(self, report):
        os.kill(os.getpid(), signal.SIGKILL)

class Printing:
    async def send(self, report):
        print(report["report_id"])

async def main():
    outbox = Outbox(Path(sys.argv[1]))
    try:
        await outbox.put(json.load(sys.stdin))
    except Exception as error:
        print(type(error).__name__, type(error.__cause__).__name__)
    await outbox.drain(Killed() if sys.argv[2] == "kill" else Printing(), timeout_s=30)

anyio.run(main)
"""


def run_child(directory: Path, what: str, report: Report, limit: Callable[[], None] | None = None) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(directory), what],
        input=json.dumps(report),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=limit,
    )
    return done.returncode, done.stdout


async def test_a_report_outlives_a_kill_between_writing_and_sending(directory: Path) -> None:
    returncode, _ = await anyio.to_thread.run_sync(run_child, directory, "kill", a_report())
    assert returncode == -signal.SIGKILL
    transport = MemoryTransport()
    assert await Outbox(directory).drain(transport, timeout_s=30) is None
    assert transport.received == ids([a_report()])


async def test_a_report_is_sent_from_memory_where_the_disk_is_full(directory: Path) -> None:
    # RLIMIT_FSIZE: write() fails half-way through the file, as on a full disk, for root too.
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    returncode, output = await anyio.to_thread.run_sync(run_child, directory, "print", a_report(), limit)
    assert (returncode, output.splitlines()[:2]) == (0, ["OutboxError OSError", a_report()["report_id"]])
    assert [path async for path in anyio.Path(directory).iterdir()] == []
