"""The outbox: reports wait here, on disk, until the scheduler has them.

* ``put`` returns when the report is on disk.  If it cannot be written, it waits in memory, behind those on disk, and
  is written as soon as possible.
* Reports are sent in the order in which they were put, one at a time.
* A report is removed after it was acknowledged, never before: after any interruption it is sent again, and the receiver
  recognises a repeat by the ``report_id``.

Calls to the disk are not abandoned on cancellation: they are short, and if a disk hangs the process can do nothing, not
even exit.
"""

import contextlib
import enum
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Final, NoReturn

import anyio
import structlog
from anyio import to_thread
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from bringup.daemon.decisions.outcomes import RunResult
from bringup.daemon.errors import chain_of
from bringup.daemon.storage.outbox.base import NotAcknowledged, Pending, Rejected, Transport
from bringup.daemon.storage.outbox.report import Report, build_report
from bringup.daemon.storage.outbox.spool import OutboxError, Spool
from bringup.placement.retry_after import jittered

__all__ = ["Delivery", "Outbox", "OutboxError", "retries"]

log = structlog.get_logger(__name__)

RETRY_AFTER_LIMIT_S: Final = 3600.0
"""Longest wait that a receiver can request."""


PENDING_AGE_S: Final = 1.0
"""Longest age of the counts of waiting reports."""


class Delivery(enum.Enum):
    """State of a report."""

    ACKNOWLEDGED = "acknowledged"
    """The scheduler has it."""
    REJECTED = "rejected"
    """The scheduler will never accept it; it is set aside for an operator."""
    KEPT = "kept"
    """On disk; this daemon or the next start sends it."""
    IN_MEMORY = "in memory"
    """In this process only: lost if it exits before the scheduler has it."""


class Outbox:
    """The spool, and the reports in memory that could not be written to it."""

    def __init__(
        self,
        directory: Path,
        *,
        keep: int = 100,
        attempting: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        """Keep reports in ``directory``; more than ``keep`` only if each has what no later one has.

        ``attempting`` is entered around each attempt of :meth:`run_forever`.
        """
        self._attempting = attempting
        self._spool = Spool(directory, keep=keep)
        self._unwritten: deque[Report] = deque()
        self._settled: deque[tuple[str, Delivery]] = deque(maxlen=keep)
        self._disk = anyio.Lock()
        self._sending = anyio.Lock()
        self._was_put = anyio.Event()
        self._retries = 0
        self._checking = anyio.Lock()
        self._checked_at = -math.inf
        self._counts: tuple[int, float | None] = (0, None)

    async def put(self, report: Report) -> None:
        """Keep a report until it is acknowledged; on disk when this returns.

        :raises OutboxError: it is kept in memory only.
        """
        self._unwritten.append(report)
        try:
            async with self._disk:
                await self._write_unwritten()
        finally:
            self._was_put.set()

    async def drain(
        self, transport: Transport, *, timeout_s: float
    ) -> NotAcknowledged | OutboxError | TimeoutError | None:
        """Send what waits, in order, for ``timeout_s`` at most; return the error that ended it early."""
        try:
            with anyio.fail_after(timeout_s):
                while await self._send_first(transport):
                    pass
        except TimeoutError:
            return TimeoutError(f"not acknowledged in {timeout_s:g} s")
        except (NotAcknowledged, OutboxError) as error:
            return error
        return None

    async def pending(self) -> Pending:
        """Return how many reports wait, and the age of the oldest; at most a second old."""

        def measure() -> tuple[int, float | None]:
            written = [path.stat().st_mtime for path in self._spool.waiting()]
            return len(written), max(0.0, time.time() - min(written)) if written else None

        async with self._checking:
            if time.monotonic() - self._checked_at > PENDING_AGE_S:
                # One was sent meanwhile, or the disk is unavailable: the next check will show.
                with contextlib.suppress(OutboxError, OSError):
                    self._counts = await to_thread.run_sync(measure)
                self._checked_at = time.monotonic()
            count, oldest_s = self._counts
        return Pending(count + len(self._unwritten), oldest_s, self._retries)

    def delivery(self, report: Report) -> Delivery:
        """Return the state of a report that was put recently."""
        for report_id, delivery in self._settled:
            if report_id == report["report_id"]:
                return delivery
        return Delivery.IN_MEMORY if report in self._unwritten else Delivery.KEPT

    async def run_forever(self, transport: Transport, policy: AsyncRetrying) -> NoReturn:
        """Send what waits and what is put from now on; retry each with back-off until it is acknowledged."""
        await to_thread.run_sync(self._spool.tidy)

        async def attempt() -> bool:
            with self._attempting():
                return await self._send_first(transport)

        while True:
            self._was_put = anyio.Event()
            more = await policy.wraps(attempt)()
            if more or self._unwritten or self._was_put.is_set():
                continue
            await self._was_put.wait()

    async def _send_first(self, transport: Transport) -> bool:
        async with self._sending:
            report, path = await self._first()
            if report is None:
                return False
            try:
                await transport.send(report)
            except Rejected as error:
                await self._reject(report, path, error)
                return True
            except NotAcknowledged as error:
                self._retries += 1
                log.warning("report.not_acknowledged", report_id=report["report_id"], problem=chain_of(error))
                raise
            except Exception as error:
                # A transport that is broken must not end the daemon: the report waits.
                log.exception("report.transport_failed", report_id=report["report_id"])
                raise NotAcknowledged(f"cannot send report {report['report_id']}") from error
            if path is not None:
                await to_thread.run_sync(self._spool.remove, path)
            self._settle(report, Delivery.ACKNOWLEDGED)
            log.info("report.acknowledged", report_id=report["report_id"])
            return True

    async def _reject(self, report: Report, path: Path | None, error: Rejected) -> None:
        kept = None if path is None else str(await to_thread.run_sync(self._spool.reject, path))
        self._settle(report, Delivery.REJECTED)
        log.error("report.rejected", report_id=report["report_id"], problem=chain_of(error), kept=kept)

    async def _first(self) -> tuple[Report | None, Path | None]:
        async with self._disk:
            with contextlib.suppress(OutboxError):
                await self._write_unwritten()
            try:
                for path in await to_thread.run_sync(self._spool.waiting):
                    report = await to_thread.run_sync(self._spool.read, path)
                    if report is not None:
                        return report, path
            except OutboxError:
                if not self._unwritten:
                    raise
            return (self._unwritten[0], None) if self._unwritten else (None, None)

    async def _write_unwritten(self) -> None:
        while self._unwritten:
            await to_thread.run_sync(self._spool.write, self._unwritten[0])
            self._unwritten.popleft()

    def _settle(self, report: Report, delivery: Delivery) -> None:
        self._settled.append((report["report_id"], delivery))
        # Not there: it was read from the disk, or written to it meanwhile; then it is sent again, which is harmless.
        with contextlib.suppress(ValueError):
            self._unwritten.remove(report)


def retries(
    *, initial_s: float, max_s: float, sleep: Callable[[float], Awaitable[None]] = anyio.sleep
) -> AsyncRetrying:
    """Return the policy by which a report is sent again; no wait is shorter than ``initial_s``."""
    backoff = wait_random_exponential(multiplier=2 * initial_s, min=initial_s, max=max_s)
    return AsyncRetrying(
        retry=retry_if_exception_type((NotAcknowledged, OutboxError)),
        wait=lambda state: max(backoff(state), _demanded_s(state)),
        sleep=sleep,
    )


def _demanded_s(state: RetryCallState) -> float:
    """Return how long the receiver demands to be left alone after a failed attempt; 0 where it says nothing."""
    error = None if state.outcome is None else state.outcome.exception()
    demanded_s = error.retry_after_s if isinstance(error, NotAcknowledged) else None
    return jittered(demanded_s, at_most_s=RETRY_AFTER_LIMIT_S)


async def report_outcomes(
    result: RunResult, *, outbox: Outbox, transport: Transport | None, created_at: datetime, timeout_s: float
) -> Delivery:
    """Put the report of a run into the outbox and send what waits there once, for ``timeout_s`` at most.

    The caller shields it.
    """
    report = build_report(result, created_at=created_at)
    problem: Exception | None = None
    try:
        await outbox.put(report)
    except OutboxError as error:
        log.error("report.not_written", report_id=report["report_id"], problem=chain_of(error))  # noqa: TRY400 - a sentence, no traceback
        problem = error
    if transport is not None:
        problem = await outbox.drain(transport, timeout_s=timeout_s) or problem
    delivery = outbox.delivery(report)
    if problem is not None and delivery in {Delivery.KEPT, Delivery.IN_MEMORY}:
        log.warning("report.kept", report_id=report["report_id"], delivery=delivery.value, problem=chain_of(problem))
    return delivery
