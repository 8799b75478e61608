"""Who is told of a run, event by event: protocols only.  Who tells is in ``recovery``, who listens in ``status``."""

from typing import Protocol

from bringup.daemon.decisions.outcomes import Outcome
from bringup.daemon.decisions.rules import Step


class PhaseObserver(Protocol):
    """Who is told what the start waits for."""

    def phase_began(self, phase: str, detail: str = "") -> None:
        """Take note of a phase."""


class ActionObserver(Protocol):
    """Who is told of every action before it is begun, and after."""

    def action_began(self, uuid: str, step: Step) -> None:
        """Take note that ``step`` is about to be done."""

    def action_ended(self, uuid: str, step: Step, error: Exception | None) -> None:
        """Take note that ``step`` was done, or failed with ``error``."""


class RunObserver(PhaseObserver, ActionObserver, Protocol):
    """Who is told how far the run is."""

    def run_began(self, run_id: str, attempt: int) -> None:
        """Take note which run it is: one that begins, or one that goes on in its next attempt."""

    def work_found(self, total: int) -> None:
        """Take note of how many instances there are."""

    def instance_began(self, uuid: str) -> None:
        """Take note that an instance got its slot."""

    def instance_ended(self, outcome: Outcome) -> None:
        """Take note of an outcome."""

    def run_ended(self) -> None:
        """Take note that nothing more will come."""
