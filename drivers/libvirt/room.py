"""So many at once, in the order in which they came; how many may change at any time.

Who waits here is not late yet: no deadline runs meanwhile.  A wait ends without room only where nothing has become
free for as long as one call may take: then what is inside hangs.
"""

import anyio

from bringup.drivers.deadlines import pause_deadlines
from bringup.drivers.libvirt.errors import NotSent


class Room:
    """Room for so many."""

    def __init__(self, count: int, what: str) -> None:
        """Have room for ``count``; ``what`` is one of them in words."""
        self._limiter = anyio.CapacityLimiter(count)
        self._what = what
        self._waiting: dict[anyio.CancelScope, float] = {}

    @property
    def taken(self) -> int:
        """How many are inside."""
        return int(self._limiter.borrowed_tokens)

    def resize(self, count: int) -> None:
        """Have room for ``count`` from now on; who is inside stays."""
        self._limiter.total_tokens = count
        self._heard()

    async def enter(self, sentence: str, *, patience_s: float) -> object:
        """Wait for room; give what :meth:`leave` takes.

        :raises NotSent: nothing became free in ``patience_s``.
        """
        place = object()
        with pause_deadlines(), anyio.move_on_after(patience_s) as scope:
            self._waiting[scope] = patience_s
            try:
                await self._limiter.acquire_on_behalf_of(place)
            finally:
                del self._waiting[scope]
            return place
        raise NotSent(
            f"did not {sentence}: not sent: no {self._what} was free in {patience_s:g} s "
            f"({self.taken} calls are under way)"
        )

    def leave(self, place: object) -> None:
        """Make room again."""
        self._limiter.release_on_behalf_of(place)
        self._heard()

    def _heard(self) -> None:
        """Have all that wait go on waiting: it gets on."""
        for scope, patience_s in self._waiting.items():
            scope.deadline = anyio.current_time() + patience_s
