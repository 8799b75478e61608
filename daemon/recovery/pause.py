"""A pause of all starts, which an operator requests: it is in the journal, and ends by itself.

To an instance it is a need that is not met: its guest is not started, its record stays as it is, and it is settled
again when the pause is over.  What starts no guest is not paused: deletions, stops, rules of guests that run, reports.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NoReturn

import anyio

from bringup.daemon.errors import JournalError
from bringup.daemon.logs import get_logger
from bringup.daemon.storage.journal import NO_JOURNAL, Journal, StartPause
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedNotMet, NeedState

log = get_logger()

READ_EVERY_S: Final = 1.0


class Paused(NeedNotMet):
    """Starts are paused."""


def _unheard(_since: str, _until: str) -> None:
    """Ignore it."""


@dataclass(slots=True)
class Pause:
    """Whether starts are paused now."""

    journal: Journal = NO_JOURNAL
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    on_change: Callable[[str, str], None] = _unheard
    """Called with beginning and end of a pause, and with two empty texts when it is over."""
    _current: StartPause | None = None
    _last: StartPause | None = None
    """The last one that was read, over or not."""
    _is_unknown: bool = False
    _ends_at: float = 0.0
    """When that ends, in monotonic seconds."""

    @property
    def is_active(self) -> bool:
        """Check whether no guest may be started now."""
        return self._current is not None and time.monotonic() < self._ends_at

    @property
    def need(self) -> Need | None:
        """What is not met, for each guest that would be started; None if starts are not paused."""
        if self._current is None or not self.is_active:
            return None
        _, until = shown_times(self._current)
        why = f"by an operator until {until}; bringup resume ends the pause"
        return Need(kind=NeedKind.PAUSE, name="starts", state=NeedState.ABSENT, met_by=MetBy.HOST, why=why)

    async def read(self) -> None:
        """Read whether it was requested or ended; if that cannot be read, it stays as it is until its end."""
        try:
            found = await self.journal.pause()
            self._is_unknown = False
        except JournalError as error:
            if not self._is_unknown:
                log.error("pause.unknown", error=str(error))  # noqa: TRY400 - a sentence, no traceback
            self._is_unknown, found = True, self._last
        if found is not None and found != self._last:
            # Not longer than requested, whatever the clock says: it may not be set yet.
            left_s = min(found.until - self.now(), found.until - found.since).total_seconds()
            self._ends_at = time.monotonic() + left_s
        self._last = found
        self._notify(found if time.monotonic() < self._ends_at else None)

    def _notify(self, current: StartPause | None) -> None:
        before, self._current = self._current, current
        if current == before:
            return
        if self._current is None:
            log.info("run.resumed")
            self.on_change("", "")
        else:
            since, until = shown_times(self._current)
            log.warning("run.paused", since=since, until=until)
            self.on_change(since, until)

    async def follow(self) -> NoReturn:
        """Read it again and again, until cancelled."""
        while True:
            await self.read()
            await anyio.sleep(READ_EVERY_S)


def end_of(pause: StartPause | None, now: datetime) -> str | None:
    """Return the end of a pause as it is shown; None if there is none, or it is over."""
    return None if pause is None or pause.until <= now else shown_times(pause)[1]


def shown_times(pause: StartPause | None) -> list[str]:
    """Return beginning and end of a pause as they are shown; nothing where there is none."""
    ends = () if pause is None else (pause.since, pause.until)
    return [f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" for at in ends]
