"""How far a run is: counted as it goes, shown by whoever wants to (terminal, status, systemd)."""

import time
from collections import Counter
from dataclasses import dataclass, field

from bringup.daemon.decisions import Step
from bringup.daemon.outcomes import Kind, Outcome


@dataclass(slots=True)
class Running:
    """One instance that is being worked on."""

    uuid: str
    since: float
    """When it got its slot (monotonic seconds)."""
    doing: str
    doing_since: float


@dataclass(slots=True)
class Progress:
    """The observer of a run that only counts.  All times are monotonic seconds."""

    phase: str = "starting"
    detail: str = ""
    total: int = 0
    kinds: Counter[Kind] = field(default_factory=Counter)
    warnings: int = 0
    running: dict[str, Running] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    work_began: float | None = None
    ended: float | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    """The failed and the superseded ones, in the order in which they ended."""

    def phase_began(self, phase: str, detail: str = "") -> None:
        """Enter a phase: placement, driver, records, evacuated, instances, report, done."""
        self.phase, self.detail = phase, detail

    def work_found(self, total: int) -> None:
        """Know how many instances there are to settle."""
        self.total = total
        self.work_began = time.monotonic()

    def instance_began(self, uuid: str) -> None:
        """Note that an instance got its slot."""
        now = time.monotonic()
        self.running[uuid] = Running(uuid, now, "look", now)

    def action_began(self, uuid: str, step: Step) -> None:
        """Note what is about to be done."""
        running = self.running.get(uuid)
        if running is not None:
            running.doing, running.doing_since = step.action.verb, time.monotonic()

    def action_ended(self, uuid: str, step: Step, error: Exception | None) -> None:
        """Ignore it: the next action says what is being done."""

    def instance_ended(self, outcome: Outcome) -> None:
        """Note that an instance is settled."""
        self.running.pop(outcome.uuid, None)
        self.kinds[outcome.kind] += 1
        self.warnings += bool(outcome.warnings)
        if outcome.kind in (Kind.FAILED, Kind.SUPERSEDED):
            self.outcomes.append(outcome)

    def run_ended(self) -> None:
        """Note that nothing more will come."""
        self.ended = time.monotonic()
        self.phase, self.detail = "done", ""

    def now(self) -> float:
        """Read the clock that all times here are of."""
        return time.monotonic()

    @property
    def done(self) -> int:
        """How many instances are settled."""
        return self.kinds.total()

    @property
    def waiting(self) -> int:
        """How many instances have not got a slot yet."""
        return max(0, self.total - self.done - len(self.running))

    @property
    def slowest(self) -> Running | None:
        """The instance that has been worked on longest."""
        return min(self.running.values(), key=lambda running: running.since, default=None)

    def rate(self) -> float | None:
        """Tell how many instances a second were settled; None before the first."""
        if self.work_began is None or not self.done:
            return None
        spent = (self.ended or time.monotonic()) - self.work_began
        return self.done / spent if spent > 0 else None

    def eta_s(self) -> float | None:
        """Tell in how many seconds the rest will be settled, if it goes on like this; None if unknown."""
        rate = self.rate()
        return None if rate is None else (self.total - self.done) / rate
