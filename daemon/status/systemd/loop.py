"""Periodic notification of the service manager; :mod:`bringup.daemon.status.systemd.messages` decides its content."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio

from bringup.daemon.liveness import Vitals
from bringup.daemon.logs import get_logger
from bringup.daemon.status.snapshot import Snapshot
from bringup.daemon.status.systemd import messages
from bringup.daemon.status.systemd.messages import SIGNS, ManagerState, Moment, Rules
from bringup.daemon.status.systemd.notifier import Notifier

log = get_logger()

TICK_S = 1.0


class NotifierLoop:
    """State of what was sent to the service manager, and the loop that sends the rest."""

    def __init__(
        self,
        notifier: Notifier | None,
        snapshot: Callable[[], Snapshot],
        vitals: Vitals,
        rules: Rules,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Send to ``notifier``; without one, nothing is sent."""
        self._notifier = notifier
        self._snapshot = snapshot
        self._vitals = vitals
        self._rules = rules
        self._clock = clock
        self._sent = ManagerState()
        self._is_back = False
        self._is_stopping = False
        self._stuck: str | None = None

    async def run(self) -> None:
        """Notify until cancelled; return at once without a notifier."""
        while self._notifier is not None:
            self.send_due()
            watchdog_s = self._rules.watchdog_s
            await anyio.sleep(TICK_S if watchdog_s is None else min(TICK_S, watchdog_s / SIGNS / 2))

    def send_due(self) -> None:
        """Send what is due."""
        if self._notifier is None or self._is_stopping:
            return
        moment = self._moment()
        lines, sent = messages.due(moment, self._sent, self._rules)
        self._note(messages.why_stuck(moment, self._rules))
        # What was not accepted is sent again the next time.
        if not lines or self._notifier.send(lines):
            self._sent = sent

    def _moment(self) -> Moment:
        overdue = self._vitals.overdue()
        return Moment(at=self._clock(), snapshot=self._snapshot(), is_back=self._is_back, overdue=overdue)

    def why_stuck(self) -> str | None:
        """Return what hangs; None where nothing does."""
        return messages.why_stuck(self._moment(), self._rules)

    def _note(self, stuck: str | None) -> None:
        if stuck and not self._stuck:
            log.error("service.stuck", why=stuck, means="watchdog pings stopped; systemd will restart the service")
        elif self._stuck and not stuck:
            log.info("service.recovered", was=self._stuck)
        self._stuck = stuck

    def back(self) -> None:
        """Send that the host is back."""
        self._is_back = True
        self.send_due()

    def stopping(self, *, within_s: float) -> None:
        """Send that the daemon ends."""
        if self._notifier is not None and not self._is_stopping:
            self._notifier.send(messages.stopping(within_s, stuck=self.why_stuck() is not None))
        self._is_stopping = True

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Send that the settings are being read, for as long as the block lasts.

        Not before the host is back: the ``READY=1`` that ends a reload would report that it is.
        """
        if self._notifier is None or not self._sent.is_ready or self._is_stopping:
            yield
            return
        self._notifier.send(messages.reloading(self._clock()))
        try:
            yield
        finally:
            # READY=1 is sent again, with the status of now.
            self._sent = ManagerState()
            self.send_due()
