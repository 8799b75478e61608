"""Capacity: how many instances are worked on at once, one number for the run, the driver and the status."""

from collections.abc import Callable
from typing import Final

from anyio import CapacityLimiter


class Capacity:
    """``limits.concurrency``, which a reload may change while a run is under way, and how many of them are used."""

    def __init__(self, number: int) -> None:
        """Create ``number`` slots."""
        self.slots: Final = CapacityLimiter(number)
        """An instance that is worked on holds one, and one that boots."""
        self.number = number
        """How many slots there may be."""
        self._limit: int | None = None
        self._followers: list[Callable[[int], None]] = []

    @property
    def limit(self) -> int:
        """How many slots there are now."""
        return int(self.slots.total_tokens)

    def restrict(self, limit: int | None) -> None:
        """Have no more slots than ``limit`` for now; None: as many as there may be."""
        self._limit = limit
        self._apply()

    def resize(self, number: int) -> None:
        """Change how many slots there may be, and notify those that follow it; what is under way keeps its slot."""
        self.number = number
        self._apply()
        for follower in self._followers:
            follower(number)

    def follow(self, follower: Callable[[int], None]) -> None:
        """Call ``follower`` with the number of slots that there may be whenever it changes."""
        self._followers.append(follower)

    def _apply(self) -> None:
        self.slots.total_tokens = self.number if self._limit is None else max(1, min(self._limit, self.number))
