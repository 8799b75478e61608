"""Several observers of one run: each is told everything, and one that fails hurts neither the others nor the run."""

from collections.abc import Callable

from bringup.daemon.decisions.outcomes import Outcome
from bringup.daemon.decisions.rules import Step
from bringup.daemon.decisions.run_events import RunObserver
from bringup.daemon.logs import get_logger

log = get_logger()


class Indifferent:
    """An observer that ignores everything; who wants to know one thing overrides that."""

    def phase_began(self, phase: str, detail: str = "") -> None:
        """Ignore it."""

    def run_began(self, run_id: str, attempt: int) -> None:
        """Ignore it."""

    def work_found(self, total: int) -> None:
        """Ignore it."""

    def instance_began(self, uuid: str) -> None:
        """Ignore it."""

    def action_began(self, uuid: str, step: Step) -> None:
        """Ignore it."""

    def action_ended(self, uuid: str, step: Step, error: Exception | None) -> None:
        """Ignore it."""

    def instance_ended(self, outcome: Outcome) -> None:
        """Ignore it."""

    def run_ended(self) -> None:
        """Ignore it."""


class Observers:
    """Tells all of them, in the order given."""

    def __init__(self, *observers: RunObserver) -> None:
        """Take those who are told."""
        self._observers = observers

    def _tell(self, tell: Callable[[RunObserver], None]) -> None:
        for observer in self._observers:
            try:
                tell(observer)
            except Exception:
                log.exception("observer.failed", observer=type(observer).__name__)

    def phase_began(self, phase: str, detail: str = "") -> None:
        """Tell of a phase."""
        self._tell(lambda observer: observer.phase_began(phase, detail))

    def run_began(self, run_id: str, attempt: int) -> None:
        """Tell which run it is."""
        self._tell(lambda observer: observer.run_began(run_id, attempt))

    def work_found(self, total: int) -> None:
        """Tell how many instances there are."""
        self._tell(lambda observer: observer.work_found(total))

    def instance_began(self, uuid: str) -> None:
        """Tell that an instance got its slot."""
        self._tell(lambda observer: observer.instance_began(uuid))

    def action_began(self, uuid: str, step: Step) -> None:
        """Tell what is about to be done."""
        self._tell(lambda observer: observer.action_began(uuid, step))

    def action_ended(self, uuid: str, step: Step, error: Exception | None) -> None:
        """Tell what was done."""
        self._tell(lambda observer: observer.action_ended(uuid, step, error))

    def instance_ended(self, outcome: Outcome) -> None:
        """Tell of an outcome."""
        self._tell(lambda observer: observer.instance_ended(outcome))

    def run_ended(self) -> None:
        """Tell that nothing more will come."""
        self._tell(lambda observer: observer.run_ended())
