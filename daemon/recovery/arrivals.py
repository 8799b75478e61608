"""What deferred instances wait for, watched by the driver: it arrives, and is checked at once.

A burst of reports is one check.  After a check that found nothing the next one of the same needs waits, twice as
long each time: what comes and goes costs no more than the periodic check, which stays, and delays nothing else.
Nothing is watched while nobody waits.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Final

import anyio
from anyio.abc import TaskGroup

from bringup.daemon.errors import chain_of
from bringup.daemon.logs import get_logger
from bringup.daemon.tasks import background
from bringup.drivers.base import Driver
from bringup.drivers.needs import Need

log = get_logger()

QUIET_S: Final = 0.2
"""A burst is over when nothing was reported for so long."""
BURST_S: Final = 1.0
"""The longest one."""
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0


@dataclass(slots=True)
class Burst:
    """Reports that are checked together, and when; times are those of the event loop."""

    since: dict[Need, float] = field(default_factory=dict)
    """When each need was reported that is still to be checked."""
    last: float = inf
    delays: dict[Need, tuple[float, float]] = field(default_factory=dict)
    """Of needs whose last check found nothing: the delay, and until when."""

    def add(self, need: Need, now: float) -> None:
        """Add a report."""
        self.last = now
        self.since.setdefault(need, now)

    def due_at(self) -> float:
        """Return when the first is checked; infinity if there are none."""
        return min(map(self._due_at, self.since), default=inf)

    def _due_at(self, need: Need) -> float:
        return max(self._delay_of(need)[1], min(self.last + QUIET_S, self.since[need] + BURST_S))

    def _delay_of(self, need: Need) -> tuple[float, float]:
        return self.delays.get(need, (0.0, 0.0))

    def take(self, now: float) -> frozenset[Need]:
        """Return the reports, and begin anew; those that are delayed stay."""
        taken = frozenset(need for need in self.since if self._delay_of(need)[1] <= now)
        self.since = {need: at for need, at in self.since.items() if need not in taken}
        return taken

    def keep(self, needs: Collection[Need]) -> None:
        """Forget all others."""
        self.since = {need: at for need, at in self.since.items() if need in needs}
        self.delays = {need: delay for need, delay in self.delays.items() if need in needs}

    def checked(self, needs: Collection[Need], now: float, *, is_fruitless: bool) -> None:
        """Delay the next check of these after one that found nothing."""
        for need in needs:
            delay_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, 2 * self._delay_of(need)[0])) if is_fruitless else 0.0
            self.delays[need] = delay_s, now + delay_s


class Arrivals:
    """Watch of one host; :func:`watched` makes it."""

    def __init__(self, driver: Driver, group: TaskGroup) -> None:
        """Watch nothing yet."""
        self._driver = driver
        self._group = group
        self._wanted: frozenset[Need] = frozenset()
        self._watched: frozenset[Need] = frozenset()
        """What is wanted, and maybe what was."""
        self._scope = anyio.CancelScope()
        self._burst = Burst()
        self._has_failed = False
        self._reported = anyio.Event()

    def follow(self, needs: Collection[Need]) -> bool:
        """Report these from now on, and no others; return whether there are new ones among them.

        A watch that begins anew misses what arrives meanwhile: where only fewer are wanted, it continues as it is.
        """
        self._wanted = wanted = frozenset(needs)
        self._burst.keep(wanted)
        is_new = not wanted <= self._watched
        if wanted and not is_new:
            return False
        self._scope.cancel()
        self._watched, self._scope, self._has_failed = wanted, anyio.CancelScope(), False
        if wanted:
            self._group.start_soon(self._watch, wanted, self._scope, name="arrivals")
        return is_new

    async def _watch(self, needs: frozenset[Need], scope: anyio.CancelScope) -> None:
        with scope:
            try:
                await self._driver.watch_needs(needs, self._notify)
            except NotImplementedError:
                self._has_failed = True
                log.debug("needs.not_watched", what="needs of guests", error="this driver cannot watch them")
            except Exception as error:  # noqa: BLE001 - whatever a driver raises: the periodic check stays
                self._has_failed = True
                log.warning("needs.not_watched", what="needs of guests", error=chain_of(error))

    def reports(self, needs: Collection[Need]) -> bool:
        """Check whether the arrival of all of these is reported."""
        is_watched = not self._has_failed and self._watched.issuperset(needs)
        return is_watched and all(map(self._driver.watches, needs))

    def _notify(self, need: Need) -> None:
        if need in self._wanted:
            self._burst.add(need, anyio.current_time())
            self._reported.set()

    async def wait(self, at_most_s: float) -> frozenset[Need]:
        """Return what may be met by now, as soon as it is to be checked; nothing if that is not in ``at_most_s``."""
        until = anyio.current_time() + at_most_s
        while (now := anyio.current_time()) < until:
            if now >= self._burst.due_at():
                return self._burst.take(now)
            self._reported = anyio.Event()
            with anyio.move_on_after(min(until, self._burst.due_at()) - now):
                await self._reported.wait()
        return frozenset()

    def checked(self, needs: Collection[Need], *, is_fruitless: bool) -> None:
        """Store the outcome of the check of what was returned."""
        self._burst.checked(needs, anyio.current_time(), is_fruitless=is_fruitless)


@asynccontextmanager
async def watched(driver: Driver) -> AsyncIterator[Arrivals]:
    """Watch what is followed for as long as the block lasts."""
    async with background() as group:
        yield Arrivals(driver, group)
