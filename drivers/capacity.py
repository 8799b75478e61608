"""Capacity: how many instances are worked on at once, one number for the run, the driver and the status."""

from collections.abc import Callable
from typing import Final

from anyio import CapacityLimiter


class Capacity:
    """``limits.concurrency`` and ``limits.pace``, which a reload may change while a run is under way."""

    def __init__(self, number: int, *, calls: int | None = None, is_adaptive: bool = False) -> None:
        """Create ``number`` slots; ``is_adaptive``: fewer are used where whoever watches the host says so."""
        self.slots: Final = CapacityLimiter(number)
        """An instance that is worked on holds one, and one that boots."""
        self.number = number
        """How many slots there may be."""
        self.calls = number if calls is None else calls
        """How many of those that hold one may call the hypervisor at once: guests that boot call nothing."""
        self.is_adaptive = is_adaptive
        self._limit: int | None = None
        self._followers: list[Callable[[int], None]] = []

    @property
    def limit(self) -> int:
        """How many slots there are now."""
        return int(self.slots.total_tokens)

    def restrict(self, limit: int | None) -> None:
        """Use no more slots than ``limit`` for now, if the pace is adaptive; None: as many as there may be."""
        self._limit = limit
        self._apply()

    def resize(self, number: int, *, calls: int | None = None, is_adaptive: bool | None = None) -> None:
        """Change how many slots there may be, and notify those that follow it; what is under way keeps its slot.

        ``calls``: None allows as many as slots; ``is_adaptive``: None leaves it as it is.
        """
        self.number, self.calls = number, number if calls is None else calls
        if is_adaptive is not None:
            self.is_adaptive = is_adaptive
        self._apply()
        for follower in self._followers:
            follower(number)

    def follow(self, follower: Callable[[int], None]) -> None:
        """Call ``follower`` with the number of slots that there may be whenever it changes."""
        self._followers.append(follower)

    def _apply(self) -> None:
        restricts = self.is_adaptive and self._limit is not None
        self.slots.total_tokens = max(1, min(self._limit or 1, self.number)) if restricts else self.number
