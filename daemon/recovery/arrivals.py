"""What deferred instances wait for, watched by the driver: it arrives, and is checked at once.

A burst of reports is one check.  After a check that found nothing the next one waits, each time twice as long: what
comes and goes all the time costs no more than the periodic check, which stays.  Nothing is watched while nobody waits.
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

    needs: set[Need] = field(default_factory=set)
    began: float = inf
    last: float = inf
    not_before: float = 0.0
    pause_s: float = 0.0

    def add(self, need: Need, now: float) -> None:
        """Add a report."""
        self.began = now if not self.needs else self.began
        self.last = now
        self.needs.add(need)

    def due_at(self) -> float:
        """Return when they are checked; infinity if there are none."""
        return max(self.not_before, min(self.last + QUIET_S, self.began + BURST_S)) if self.needs else inf

    def take(self) -> frozenset[Need]:
        """Return the reports, and begin anew."""
        taken, self.needs = frozenset(self.needs), set()
        return taken

    def checked(self, now: float, *, is_fruitless: bool) -> None:
        """Delay the next check after one that found nothing."""
        self.pause_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, 2 * self.pause_s)) if is_fruitless else 0.0
        self.not_before = now + self.pause_s


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
        self._burst.needs &= wanted
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
                return self._burst.take()
            self._reported = anyio.Event()
            with anyio.move_on_after(min(until, self._burst.due_at()) - now):
                await self._reported.wait()
        return frozenset()

    def checked(self, *, is_fruitless: bool) -> None:
        """Store the outcome of the check of what was returned."""
        self._burst.checked(anyio.current_time(), is_fruitless=is_fruitless)


@asynccontextmanager
async def watched(driver: Driver) -> AsyncIterator[Arrivals]:
    """Watch what is followed for as long as the block lasts."""
    async with background() as group:
        yield Arrivals(driver, group)
