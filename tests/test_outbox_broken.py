"""A transport that is broken costs a try: neither the report nor the daemon."""

from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from structlog.testing import capture_logs

from bringup.daemon.storage.outbox.base import NotAcknowledged
from bringup.daemon.storage.outbox.outbox import Delivery, Outbox
from bringup.daemon.storage.outbox.report import Report
from support.scheduler import OFTEN, MemoryTransport, a_report, ids, reports, run_until_settled, until_settled, waiting

pytestmark = pytest.mark.anyio

BROKEN: list[Callable[[], Exception]] = [
    lambda: ValueError("a header that cannot be"),
    lambda: RuntimeError("the client has been closed"),
    lambda: ExceptionGroup("several", [OSError("one"), KeyError("two")]),
    lambda: TimeoutError("its own"),
]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


@pytest.mark.parametrize("broken", BROKEN, ids=lambda make: type(make()).__name__)
async def test_after_a_transport_error_the_daemon_sends_the_report_later(
    directory: Path, broken: Callable[[], Exception]
) -> None:
    outbox, transport = Outbox(directory), MemoryTransport(broken(), broken())
    for report in reports(2):
        await outbox.put(report)

    with capture_logs() as logs:
        await run_until_settled(outbox, transport, *reports(2))

    assert transport.received == ids(reports(2))
    assert waiting(directory) == []
    failed = [line for line in logs if line["event"] == "report.transport_failed"]
    assert [(line["log_level"], line["exc_info"], line["report_id"]) for line in failed] == [
        ("error", True, ids(reports(1))[0])
    ] * 2


class BrokenUntil:
    """A transport that is broken until it is repaired."""

    def __init__(self) -> None:
        self.repaired = False
        self.tried = anyio.Event()
        self.received: list[str] = []

    async def send(self, report: Report) -> None:
        await anyio.lowlevel.checkpoint()
        if not self.repaired:
            self.tried.set()
            raise ValueError("broken")
        self.received.append(report["report_id"])


async def test_with_a_broken_transport_the_report_stays_on_disk(directory: Path) -> None:
    outbox, transport = Outbox(directory), BrokenUntil()
    await outbox.put(a_report())

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: outbox.run_forever(transport, OFTEN))
            await transport.tried.wait()
            kept = (outbox.delivery(a_report()), len(waiting(directory)))
            transport.repaired = True
            await until_settled(outbox, a_report())
            group.cancel_scope.cancel()

    assert kept == (Delivery.KEPT, 1)
    assert transport.received == ids([a_report()])
    assert outbox.delivery(a_report()) is Delivery.ACKNOWLEDGED


async def test_a_pass_returns_what_ended_it_and_keeps_the_report(directory: Path) -> None:
    outbox, error = Outbox(directory), ValueError("broken")
    await outbox.put(a_report())

    problem = await outbox.drain(MemoryTransport(error), timeout_s=30)

    assert isinstance(problem, NotAcknowledged)
    assert problem.__cause__ is error
    assert a_report()["report_id"] in str(problem)
    assert (outbox.delivery(a_report()), len(waiting(directory))) == (Delivery.KEPT, 1)


async def test_a_cancelled_send_is_no_broken_transport(directory: Path) -> None:
    outbox = Outbox(directory)
    await outbox.put(a_report())

    class Cancelled:
        async def send(self, report: Report) -> None:
            del report
            scope.cancel()
            await anyio.sleep_forever()

    with capture_logs() as logs, anyio.CancelScope() as scope:
        await outbox.drain(Cancelled(), timeout_s=30)

    assert scope.cancelled_caught
    assert logs == []
    assert len(waiting(directory)) == 1
