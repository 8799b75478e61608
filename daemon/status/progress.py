"""How far a run is: counted as it goes, shown by whoever wants to (terminal, status, systemd)."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bringup.daemon.decisions.outcomes import Kind, Outcome
from bringup.daemon.decisions.rules import Step
from bringup.daemon.status.snapshot import InstanceNow, Snapshot

TOLD: Final = (
    *("phase", "detail", "phase_since", "total", "warnings", "advances", "advanced_at", "run_id", "attempt", "error"),
    *("began", "work_began", "ended"),
)
"""What of the progress is told to another process as it is."""


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
    phase_since: float = field(default_factory=time.monotonic)
    total: int = 0
    kinds: Counter[Kind] = field(default_factory=Counter)
    warnings: int = 0
    advances: int = 0
    """Counts what ended; the same number twice means that the run has not moved."""
    advanced_at: float = field(default_factory=time.monotonic)
    run_id: str | None = None
    attempt: int = 0
    error: str | None = None
    running: dict[str, Running] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    work_began: float | None = None
    ended: float | None = None
    _kinds: dict[str, Kind] = field(default_factory=dict)
    """What came of each; an instance that was held and let go on counts once."""

    def phase_began(self, phase: str, detail: str = "") -> None:
        """Enter a phase: placement, driver, records, evacuated, instances, allocations, report, done."""
        if phase != self.phase:
            self.phase_since = time.monotonic()
            self._advance()
        self.phase, self.detail = phase, detail

    def run_began(self, run_id: str, attempt: int) -> None:
        """Know which run it is."""
        self.run_id, self.attempt = run_id, attempt

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
        """Note that something was done; the next action says what is being done."""
        del uuid, step, error
        self._advance()

    def instance_ended(self, outcome: Outcome) -> None:
        """Note that an instance is settled."""
        self.running.pop(outcome.uuid, None)
        self._advance()
        if outcome.uuid in self._kinds:
            self.kinds[self._kinds[outcome.uuid]] -= 1
        self._kinds[outcome.uuid] = outcome.kind
        self.kinds[outcome.kind] += 1
        self.warnings += bool(outcome.warnings)

    def run_ended(self) -> None:
        """Note that nothing more will come."""
        self.ended = time.monotonic()
        self.phase_began("done")

    def start_failed(self, error: str) -> None:
        """Note what ended the start."""
        self.phase_began("failed", error)
        self.error = error

    def _advance(self) -> None:
        self.advances += 1
        self.advanced_at = time.monotonic()

    @property
    def done(self) -> int:
        """How many instances are settled."""
        return self.kinds.total()

    def rate(self) -> float | None:
        """Tell how many instances a second were settled; None before the first."""
        if self.work_began is None or not self.done:
            return None
        spent = (self.ended or time.monotonic()) - self.work_began
        return self.done / spent if spent > 0 else None

    def snapshot(self) -> Snapshot:
        """Give how far it is now."""
        now, rate = time.monotonic(), self.rate()
        longest_first = sorted(self.running.values(), key=lambda one: one.since)
        left = max(0, self.total - self.done)
        return Snapshot(
            phase=self.phase,
            detail=self.detail,
            phase_age_s=now - self.phase_since,
            age_s=now - self.began,
            total=self.total,
            counts={kind: self.kinds[kind] for kind in Kind},
            warnings=self.warnings,
            running=tuple(
                InstanceNow(one.uuid, one.doing, now - one.since, now - one.doing_since) for one in longest_first
            ),
            rate=rate,
            # Those that run, and none that waits: how long they take says nothing of how long the others took.
            eta_s=None if rate is None or 0 < left <= len(longest_first) else left / rate,
            advances=self.advances,
            idle_s=now - self.advanced_at,
            run_id=self.run_id,
            attempt=self.attempt,
            error=self.error,
        )

    def told(self) -> dict[str, Any]:
        """Give what a snapshot is made of, as JSON holds it; the times are of the clock of this host."""
        return {
            **{name: getattr(self, name) for name in TOLD},
            "kinds": {kind.value: count for kind, count in self.kinds.items()},
            "running": [[one.uuid, one.since, one.doing, one.doing_since] for one in self.running.values()],
        }

    def take(self, told: Mapping[str, Any]) -> None:
        """Be what another process of this host has told."""
        for name in TOLD:
            setattr(self, name, told[name])
        self.kinds = Counter({Kind(kind): count for kind, count in told["kinds"].items()})
        self.running = {one[0]: Running(*one) for one in told["running"]}
