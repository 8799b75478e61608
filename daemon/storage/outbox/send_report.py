"""The last word of ``init_host``: what came of the run, kept and told.  The caller shields it and sets no deadline."""

from dataclasses import dataclass
from datetime import datetime

import structlog

from bringup.daemon.decisions.outcomes import RunResult
from bringup.daemon.errors import chain_of
from bringup.daemon.storage.outbox.base import NotAcknowledged, Transport
from bringup.daemon.storage.outbox.outbox import Delivery, Outbox, OutboxError
from bringup.daemon.storage.outbox.report import Report, build_report

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """What became of the report of a run."""

    report: Report
    delivery: Delivery
    problem: NotAcknowledged | OutboxError | TimeoutError | None = None
    """Why it is kept."""


async def report_outcomes(
    result: RunResult, *, outbox: Outbox, transport: Transport | None, created_at: datetime, timeout_s: float
) -> Told:
    """Put the report of a run into the outbox and send what waits there once, for ``timeout_s`` at most."""
    report = build_report(result, created_at=created_at)
    unwritten: OutboxError | None = None
    try:
        await outbox.put(report)
    except OutboxError as error:
        log.error("report.not_written", report_id=report["report_id"], problem=chain_of(error))  # noqa: TRY400 - a sentence, no traceback
        unwritten = error
    problem = None if transport is None else await outbox.drain(transport, timeout_s=timeout_s)
    delivery = outbox.delivery(report)
    arrived = delivery in {Delivery.ACKNOWLEDGED, Delivery.REJECTED}
    return Told(report, delivery, None if arrived else problem or unwritten)
