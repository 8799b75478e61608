"""Whether an instance is leaving its host: what forbids to start its guest there.  Pure."""

from collections.abc import Iterable
from typing import Protocol

from bringup.daemon.decisions.migrating import MOVES, REVERTED, leaving
from bringup.daemon.errors import StateConflict

__all__ = ["MOVES", "Move", "moved"]


class Move(Protocol):
    """A migration that is on its way."""

    @property
    def uuid(self) -> str:
        """Its UUID."""

    @property
    def source_compute(self) -> str:
        """The host that the instance leaves."""

    @property
    def dest_compute(self) -> str | None:
        """The host that it goes to, where that is known."""

    @property
    def migration_type(self) -> str:
        """One of :data:`MOVES`, or something else."""

    @property
    def status(self) -> str:
        """Nova's word."""


def moved(
    uuid: str, recorded: str | None, here: str, moves: Iterable[Move], *, reverting: bool
) -> StateConflict | None:
    """Say that an instance is another host's, or on its way there; None: it is ``here`` and stays."""
    if recorded != here:
        return StateConflict(f"{uuid} is on host {recorded} now, it was on {here}")
    for move in leaving(moves, here):
        if not (reverting and move.migration_type in REVERTED):
            return StateConflict(
                f"{uuid} is on its way to another host: {move.migration_type} {move.uuid} is {move.status}"
            )
    return None
