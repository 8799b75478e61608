"""A number of slots, granted in the order of the requests; the number may change at any time.

Deadlines are paused while a call waits for a slot.  A wait ends without a slot only if none became free for as long as
one call may take: then the calls that hold them hang.
"""

from contextlib import suppress

import anyio

from bringup.drivers.deadlines import pause_deadlines
from bringup.drivers.libvirt.errors import NotSent


class Slots:
    """Slots for calls of one kind."""

    def __init__(self, count: int, what: str) -> None:
        """Create ``count`` slots; ``what`` is the name of one in messages."""
        self._limiter = anyio.CapacityLimiter(count)
        self._what = what
        self._waiting: dict[anyio.CancelScope, float] = {}

    @property
    def in_use(self) -> int:
        """How many are held."""
        return int(self._limiter.borrowed_tokens)

    def resize(self, count: int) -> None:
        """Change the number of slots; those that are held stay held."""
        self._limiter.total_tokens = count
        self._extend_waits()

    async def acquire(self, sentence: str, *, patience_s: float) -> object:
        """Wait for a slot; return what :meth:`release` accepts.

        :raises NotSent: none became free in ``patience_s``.
        """
        slot = object()
        with suppress(anyio.WouldBlock):
            self._limiter.acquire_on_behalf_of_nowait(slot)
            return slot
        with pause_deadlines(), anyio.move_on_after(patience_s) as scope:
            self._waiting[scope] = patience_s
            try:
                await self._limiter.acquire_on_behalf_of(slot)
            finally:
                del self._waiting[scope]
            return slot
        raise NotSent(
            f"did not {sentence}: not sent: no {self._what} was free in {patience_s:g} s "
            f"({self.in_use} calls are under way)"
        )

    def release(self, slot: object) -> None:
        """Release a slot."""
        self._limiter.release_on_behalf_of(slot)
        self._extend_waits()

    def _extend_waits(self) -> None:
        """Restart the patience of all that wait: calls make progress."""
        for scope, patience_s in self._waiting.items():
            scope.deadline = anyio.current_time() + patience_s
