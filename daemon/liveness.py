"""Signs of life of what is done in the background: each says by when it will have got on.

What is overdue hangs, although its own deadlines should have ended it: a call to a disk that does not answer, in a
thread that nobody can end.  Kept apart from the work: nothing here waits.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Vitals:
    """Who is at work, and until when each may take."""

    def __init__(self, *, slack_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        """Expect nothing yet; each gets ``slack_s`` on top of its own deadlines, on a clock of monotonic seconds."""
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
        """Name what should have shown by now that it goes on; None where all does."""
        now = self._clock()
        return next((name for name, until in self._until.items() if now > until), None)
