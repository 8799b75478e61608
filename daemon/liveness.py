"""Liveness of the work in the background: each task states by when it will have made progress.

A task that is overdue hangs although its own deadlines should have ended it: a call to a disk that does not answer, in
a thread that cannot be stopped.  Nothing here waits.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Vitals:
    """Tasks at work, and the time by which each must show progress."""

    def __init__(self, *, slack_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        """Expect nothing yet; each task gets ``slack_s`` on top of its deadlines, on a clock of monotonic seconds."""
        self._slack_s = slack_s
        self._clock = clock
        self._until: dict[str, float] = {}

    def expect(self, name: str, *, within_s: float) -> None:
        """Expect the next sign of life of ``name`` within its deadlines; this is one too."""
        self._until[name] = self._clock() + within_s + self._slack_s

    @contextmanager
    def expecting(self, name: str, *, within_s: float) -> Iterator[None]:
        """Expect that the block ends within its deadlines."""
        self.expect(name, within_s=within_s)
        try:
            yield
        finally:
            self._until.pop(name, None)

    def overdue(self) -> str | None:
        """Return the name of a task that is overdue; None: there is none."""
        now = self._clock()
        return next((name for name, until in self._until.items() if now > until), None)
