from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from bringup.daemon.storage.outbox.base import NotAcknowledged, Rejected, Transport
from bringup.daemon.storage.outbox.outbox import Delivery, Outbox, OutboxError
from bringup.daemon.storage.outbox.send_report import Told, report_outcomes
from support.scheduler import (
    NOON,
    OFTEN,
    Hanging,
    MemoryTransport,
    a_report,
    a_result,
    an_outcome,
    ids,
    waiting,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


async def tell(outbox: Outbox, transport: Transport | None, *, timeout_s: float = 30) -> Told:
    result = a_result(an_outcome())
    return await report_outcomes(result, outbox=outbox, transport=transport, created_at=NOON, timeout_s=timeout_s)


async def test_a_report_that_is_acknowledged_leaves_nothing_behind(directory: Path) -> None:
    transport = MemoryTransport()
    told = await tell(Outbox(directory), transport)
    assert told == Told(a_report(an_outcome()), Delivery.ACKNOWLEDGED)
    assert (transport.received, waiting(directory)) == ([told.report["report_id"]], [])


async def test_what_waits_from_before_is_told_first(directory: Path) -> None:
    earlier = a_report(minute=-1)
    await Outbox(directory).put(earlier)
    transport = MemoryTransport()
    told = await tell(Outbox(directory), transport)
    assert transport.received == ids([earlier, told.report])


async def test_a_report_that_is_not_acknowledged_is_kept_with_the_reason(directory: Path) -> None:
    problem = NotAcknowledged("not now")
    told = await tell(Outbox(directory), MemoryTransport(problem))
    assert (told.delivery, told.problem, len(waiting(directory))) == (Delivery.KEPT, problem, 1)


async def test_a_scheduler_that_hangs_costs_the_deadline_and_no_report(directory: Path) -> None:
    told = await tell(Outbox(directory), Hanging(), timeout_s=0.01)
    assert (told.delivery, type(told.problem), len(waiting(directory))) == (Delivery.KEPT, TimeoutError, 1)


async def test_a_rejected_report_is_told_as_rejected(directory: Path) -> None:
    told = await tell(Outbox(directory), MemoryTransport(Rejected("answered 400")))
    assert (told.delivery, told.problem) == (Delivery.REJECTED, None)


async def test_without_a_scheduler_the_report_is_kept(directory: Path) -> None:
    told = await tell(Outbox(directory), None)
    assert (told.delivery, told.problem, len(waiting(directory))) == (Delivery.KEPT, None, 1)


@pytest.fixture
def in_the_way(directory: Path) -> Path:
    directory.write_text("in the way")
    return directory


async def test_where_the_disk_does_not_take_it_the_report_is_still_sent(in_the_way: Path) -> None:
    with capture_logs() as logs:
        told = await tell(Outbox(in_the_way), MemoryTransport())
    assert (told.delivery, told.problem) == (Delivery.ACKNOWLEDGED, None)
    assert ("report.not_written", told.report["report_id"]) in [(line["event"], line.get("report_id")) for line in logs]


@pytest.mark.parametrize(
    ("has_scheduler", "problem"),
    [(True, NotAcknowledged), (False, OutboxError)],
    ids=["scheduler away", "no scheduler"],
)
async def test_where_neither_disk_nor_scheduler_takes_it_the_report_is_in_memory_only(
    in_the_way: Path, problem: type[Exception], *, has_scheduler: bool
) -> None:
    told = await tell(Outbox(in_the_way), MemoryTransport(NotAcknowledged("not now")) if has_scheduler else None)
    assert (told.delivery, type(told.problem)) == (Delivery.IN_MEMORY, problem)


async def test_a_report_that_the_daemon_sends_first_is_told_as_acknowledged(directory: Path) -> None:
    outbox, transport = Outbox(directory), MemoryTransport()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: outbox.run_forever(transport, OFTEN))
            await outbox.empty()
            told = await tell(outbox, transport)
            group.cancel_scope.cancel()
    assert (told.delivery, transport.received) == (Delivery.ACKNOWLEDGED, [told.report["report_id"]])


async def test_under_a_shield_a_cancelled_run_is_still_told(directory: Path) -> None:
    transport = MemoryTransport()
    with anyio.CancelScope() as run:
        run.cancel()
        with anyio.CancelScope(shield=True):
            told = await tell(Outbox(directory), transport)
    assert (told.delivery, transport.received) == (Delivery.ACKNOWLEDGED, [told.report["report_id"]])
