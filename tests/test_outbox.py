import json
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from structlog.testing import capture_logs

from bringup.daemon.storage.outbox.base import NotAcknowledged, Rejected
from bringup.daemon.storage.outbox.outbox import Delivery, Outbox, retries
from support.scheduler import (
    OFTEN,
    Hanging,
    MemoryTransport,
    Watched,
    a_report,
    ids,
    reports,
    run_until_settled,
    until_settled,
    waiting,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


async def test_reports_are_sent_in_the_order_of_writing_and_removed(directory: Path) -> None:
    outbox, transport = Outbox(directory), MemoryTransport()
    for report in reports(5):
        await outbox.put(report)
    assert await outbox.drain(transport, timeout_s=30) is None
    assert (transport.received, waiting(directory)) == (ids(reports(5)), [])


async def test_the_first_report_not_acknowledged_ends_a_pass_and_none_overtakes_it(directory: Path) -> None:
    problem = NotAcknowledged("not now")
    outbox, transport = Outbox(directory), MemoryTransport(problem)
    for report in reports(2):
        await outbox.put(report)
    assert await outbox.drain(transport, timeout_s=30) is problem
    assert (transport.received, len(waiting(directory))) == ([], 2)
    assert await outbox.drain(transport, timeout_s=30) is None
    assert transport.received == ids(reports(2))


async def test_a_rejected_report_does_not_hold_up_the_next(directory: Path) -> None:
    outbox, transport = Outbox(directory), MemoryTransport(Rejected("answered 400"))
    first, second = reports(2)
    await outbox.put(first)
    await outbox.put(second)
    with capture_logs() as logs:
        assert await outbox.drain(transport, timeout_s=30) is None
    assert transport.received == [second["report_id"]]
    assert (outbox.delivery(first), outbox.delivery(second)) == (Delivery.REJECTED, Delivery.ACKNOWLEDGED)
    (kept,) = (directory / "rejected").iterdir()
    assert json.loads(kept.read_text()) == first
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert (line["event"], line["report_id"], line["kept"]) == ("report.rejected", first["report_id"], str(kept))


async def test_a_pass_has_a_deadline(directory: Path) -> None:
    outbox = Outbox(directory)
    await outbox.put(a_report())
    assert isinstance(await outbox.drain(Hanging(), timeout_s=0.01), TimeoutError)
    assert (len(waiting(directory)), outbox.delivery(a_report())) == (1, Delivery.KEPT)


async def test_concurrent_passes_send_each_report_once(directory: Path) -> None:
    outbox, transport = Outbox(directory), MemoryTransport()
    for report in reports(3):
        await outbox.put(report)
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(lambda: outbox.drain(transport, timeout_s=30))
    assert transport.received == ids(reports(3))


async def test_older_reports_are_sent_first_and_a_new_one_wakes_the_daemon(directory: Path) -> None:
    first, second, third = reports(3)
    await Outbox(directory).put(first)
    await Outbox(directory).put(second)
    outbox, transport = Outbox(directory), MemoryTransport()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: outbox.run_forever(transport, OFTEN))
            await until_settled(outbox, first, second)
            assert transport.received == ids([first, second])
            await outbox.put(third)
            await until_settled(outbox, third)
            group.cancel_scope.cancel()
    assert transport.received == ids([first, second, third])
    assert waiting(directory) == []


async def test_the_daemon_retries_until_a_report_is_acknowledged(directory: Path) -> None:
    outbox, transport = Outbox(directory), MemoryTransport(*[NotAcknowledged("not now")] * 5)
    await outbox.put(a_report())
    await run_until_settled(outbox, transport, a_report())
    assert transport.received == ids([a_report()])


async def test_the_daemon_honours_retry_after(directory: Path) -> None:
    outbox = Outbox(directory)
    watched = Watched(MemoryTransport(NotAcknowledged("not now", retry_after_s=3000)))
    waits: list[float] = []

    async def wait_for_ever(seconds: float) -> None:
        waits.append(seconds)
        await anyio.sleep_forever()

    await outbox.put(a_report())
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: outbox.run_forever(watched, retries(initial_s=1, max_s=60, sleep=wait_for_ever)))
            await watched.failed.wait()
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    assert len(waits) == 1
    assert 3000 <= waits[0] <= 3750
    assert len(waiting(directory)) == 1


async def test_a_retry_after_of_zero_is_no_busy_loop(directory: Path) -> None:
    outbox, transport = Outbox(directory), MemoryTransport(NotAcknowledged("not now", retry_after_s=0))
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)
        await anyio.lowlevel.checkpoint()

    await outbox.put(a_report())
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: outbox.run_forever(transport, retries(initial_s=5, max_s=5, sleep=note)))
            await until_settled(outbox, a_report())
            group.cancel_scope.cancel()
    assert waits == [5]
    assert transport.received == ids([a_report()])


async def test_a_corrupt_file_is_set_aside_and_the_rest_is_sent(directory: Path) -> None:
    outbox, transport = Outbox(directory), MemoryTransport()
    await outbox.put(a_report())
    (directory / "20000101T000000.000000Z-bad.json").write_text('{"format"')
    assert await outbox.drain(transport, timeout_s=30) is None
    assert transport.received == ids([a_report()])
    assert [path.name for path in (directory / "corrupt").iterdir()] == ["20000101T000000.000000Z-bad.json"]


async def test_pending_counts_waiting_reports_and_retries(directory: Path) -> None:
    outbox = Outbox(directory)
    before = await outbox.pending()
    await outbox.put(a_report())
    await outbox.drain(MemoryTransport(NotAcknowledged("not now")), timeout_s=30)
    # Another that reads the same reports: an answer may be a moment old.
    found, seen = await outbox.pending(), await Outbox(directory).pending()

    assert (before.count, before.oldest_s, before.retries) == (0, None, 0)
    assert found.retries == 1
    assert seen.count == 1
    assert seen.oldest_s is not None
    assert seen.oldest_s >= 0
