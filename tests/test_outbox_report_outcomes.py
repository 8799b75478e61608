from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from bringup.daemon.storage.outbox.base import NotAcknowledged, Rejected, Transport
from bringup.daemon.storage.outbox.outbox import Delivery, Outbox, report_outcomes
from support.scheduler import (
    NOON,
    OFTEN,
    Hanging,
    MemoryTransport,
    a_report,
    a_result,
    an_outcome,
    ids,
    until_settled,
    waiting,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


REPORT = a_report(an_outcome())


async def send(
    outbox: Outbox, transport: Transport | None, *, timeout_s: float = 30
) -> tuple[Delivery, list[tuple[str, str]]]:
    """Report a run; return where its report is, and what the log says of one that was kept or not written."""
    with capture_logs() as logs:
        delivery = await report_outcomes(
            a_result(an_outcome()), outbox=outbox, transport=transport, created_at=NOON, timeout_s=timeout_s
        )
    said = [line for line in logs if line["event"] in {"report.kept", "report.not_written"}]
    assert all(line["report_id"] == REPORT["report_id"] for line in said)
    return delivery, [(line["event"], line["problem"]) for line in said]


async def test_an_acknowledged_report_is_removed(directory: Path) -> None:
    transport = MemoryTransport()
    assert await send(Outbox(directory), transport) == (Delivery.ACKNOWLEDGED, [])
    assert (transport.received, waiting(directory)) == (ids([REPORT]), [])


async def test_older_reports_are_sent_first(directory: Path) -> None:
    earlier = a_report(minute=-1)
    await Outbox(directory).put(earlier)
    transport = MemoryTransport()
    await send(Outbox(directory), transport)
    assert transport.received == ids([earlier, REPORT])


async def test_an_unacknowledged_report_is_kept_with_the_reason(directory: Path) -> None:
    sent = await send(Outbox(directory), MemoryTransport(NotAcknowledged("not now")))
    assert (sent, len(waiting(directory))) == ((Delivery.KEPT, [("report.kept", "not now")]), 1)


async def test_a_scheduler_that_hangs_costs_the_deadline_and_no_report(directory: Path) -> None:
    sent = await send(Outbox(directory), Hanging(), timeout_s=0.01)
    assert sent == (Delivery.KEPT, [("report.kept", "not acknowledged in 0.01 s")])
    assert len(waiting(directory)) == 1


async def test_a_rejected_report_is_described_as_rejected(directory: Path) -> None:
    sent = await send(Outbox(directory), MemoryTransport(Rejected("answered 400")))
    assert sent == (Delivery.REJECTED, [])


async def test_without_a_scheduler_the_report_is_kept(directory: Path) -> None:
    assert await send(Outbox(directory), None) == (Delivery.KEPT, [])
    assert len(waiting(directory)) == 1


@pytest.fixture
def in_the_way(directory: Path) -> Path:
    directory.write_text("in the way")
    return directory


async def test_a_report_that_cannot_be_written_is_still_sent(in_the_way: Path) -> None:
    delivery, said = await send(Outbox(in_the_way), MemoryTransport())
    assert (delivery, [event for event, _ in said]) == (Delivery.ACKNOWLEDGED, ["report.not_written"])


@pytest.mark.parametrize(
    ("has_scheduler", "problem"),
    [(True, "not now"), (False, "cannot write report")],
    ids=["scheduler away", "no scheduler"],
)
async def test_a_report_neither_written_nor_sent_stays_in_memory(
    in_the_way: Path, problem: str, *, has_scheduler: bool
) -> None:
    transport = MemoryTransport(NotAcknowledged("not now")) if has_scheduler else None
    delivery, said = await send(Outbox(in_the_way), transport)
    assert delivery is Delivery.IN_MEMORY
    assert [event for event, _ in said] == ["report.not_written", "report.kept"]
    assert said[1][1].startswith(problem)


async def test_a_report_that_the_daemon_sends_first_is_described_as_acknowledged(directory: Path) -> None:
    outbox, transport = Outbox(directory), MemoryTransport()
    earlier = a_report(minute=-1)
    await outbox.put(earlier)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: outbox.run_forever(transport, OFTEN))
            await until_settled(outbox, earlier)
            delivery, _ = await send(outbox, transport)
            group.cancel_scope.cancel()
    assert (delivery, transport.received) == (Delivery.ACKNOWLEDGED, ids([earlier, REPORT]))


async def test_under_a_shield_a_cancelled_run_is_still_reported(directory: Path) -> None:
    transport = MemoryTransport()
    with anyio.CancelScope() as run:
        run.cancel()
        with anyio.CancelScope(shield=True):
            delivery, _ = await send(Outbox(directory), transport)
    assert (delivery, transport.received) == (Delivery.ACKNOWLEDGED, ids([REPORT]))
