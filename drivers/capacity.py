"""Capacity: how many instances are worked on at once, one number for the run, the driver and the status."""

from collections.abc import Callable
from typing import Final

from anyio import CapacityLimiter


class Capacity:
    """``limits.concurrency``, which a reload may change while a run is under way."""

    def __init__(self, number: int) -> None:
        """Create ``number`` slots."""
        self.slots: Final = CapacityLimiter(number)
        """An instance that is worked on holds one."""
        self._followers: list[Callable[[int], None]] = []

    @property
    def number(self) -> int:
        """How many slots there are."""
        return int(self.slots.total_tokens)

    def resize(self, number: int) -> None:
        """Change the number of slots, and notify those that follow it; what is under way keeps its slot."""
        self.slots.total_tokens = number
        for follower in self._followers:
            follower(number)

    def follow(self, follower: Callable[[int], None]) -> None:
        """Call ``follower`` with the number of slots whenever it changes."""
        self._followers.append(follower)
