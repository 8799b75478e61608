"""Slots of the host: one is held by whoever works on an instance, then by its guest for as long as that boots."""

from collections.abc import Callable

from anyio import CapacityLimiter


class Slot:
    """One slot, acquired on behalf of this object."""

    def __init__(self, limiter: CapacityLimiter) -> None:
        """Store where it belongs; it is not acquired yet."""
        self._limiter = limiter
        self._on_release: Callable[[], None] = _nothing
        self._is_released = False
        self.is_kept = False
        """It is released later than its instance is settled."""

    async def acquire(self) -> None:
        """Wait for it."""
        await self._limiter.acquire_on_behalf_of(self)

    def on_release(self, call: Callable[[], None]) -> None:
        """Call ``call`` when it is released."""
        self._on_release = call

    def release(self) -> None:
        """Release it; once more changes nothing."""
        if not self._is_released:
            self._is_released = True
            self._on_release()
            self._limiter.release_on_behalf_of(self)


def _nothing() -> None:
    """Do nothing."""
