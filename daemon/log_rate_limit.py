"""Rate limit for log lines: what others can cause a thousand times a second must not fill a disk."""

import time
from collections.abc import Callable

MOST = 100
WITHIN_S = 60.0


class LogRateLimit:
    """At most ``most`` lines within ``within_s`` seconds; the rest is counted."""

    def __init__(
        self, most: int = MOST, within_s: float = WITHIN_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start with an empty window."""
        self._most = most
        self._within_s = within_s
        self._clock = clock
        self._began = clock()
        self._count = 0
        self._dropped = 0

    def allows(self) -> bool:
        """Count a line, and check whether it may be logged."""
        now = self._clock()
        if now - self._began >= self._within_s:
            self._began, self._count = now, 0
        self._count += 1
        if self._count > self._most:
            self._dropped += 1
            return False
        return True

    def dropped(self) -> int:
        """Return how many lines were dropped since the last call."""
        dropped, self._dropped = self._dropped, 0
        return dropped
