"""How far a run is: counted as it proceeds, shown by terminal, status endpoint and systemd."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bringup.daemon.decisions.outcomes import Did, Kind, Outcome
from bringup.daemon.decisions.run_events import (
    ActionBegan,
    ActionEnded,
    InstanceBegan,
    InstanceEnded,
    InstanceReady,
    PhaseBegan,
    RunBegan,
    RunEnded,
    RunEvent,
    WorkFound,
)
from bringup.daemon.status.boots_progress import BootsProgress
from bringup.daemon.status.snapshot import InstanceNow, Snapshot

DUMPED: Final = (
    *("phases", "detail", "total", "warnings", "advances", "advanced_at", "run_id", "attempt", "error", "retries"),
    *("began", "run_began", "work_began", "ended", "paused_since", "paused_until"),
)
"""The fields that another process receives as they are."""
DECIDING: Final = "decide"
"""What an instance does until its first action."""


@dataclass(slots=True)
class Running:
    """One instance that is being worked on."""

    uuid: str
    name: str
    project: str | None
    since: float
    """When it got its slot."""
    doing: str
    """The verb of the current action, or of the last one."""
    doing_since: float
    acting: bool = False
    """The action has not ended yet."""
    actions: list[tuple[str, float, float, bool]] = field(default_factory=list)
    """Every action that ended: its verb, when it began, seconds it took, whether it failed."""

    def end_action(self, now: float, *, failed: bool) -> None:
        """Close the current action."""
        self.acting = False
        self.actions.append((self.doing, self.doing_since, round(now - self.doing_since, 4), failed))

    def end(self, now: float) -> None:
        """Close what is open: an action whose time was up, or an instance with which nothing was to be done."""
        if self.acting or not self.actions:
            self.end_action(now, failed=self.acting)


@dataclass(slots=True)
class Progress:
    """State of a run, updated by its events.  All times are seconds of ``clock``."""

    clock: Callable[[], float] = time.monotonic
    phases: list[tuple[str, float]] = field(init=False)
    """Each phase and when it began, the current one last."""
    detail: str = ""
    retries: Counter[str] = field(default_factory=Counter)
    """By phase: how often it waited for another attempt."""
    total: int = 0
    kinds: Counter[Kind] = field(default_factory=Counter)
    did: Counter[Did] = field(default_factory=Counter)
    warnings: int = 0
    advances: int = 0
    """Counts what ended; the same number twice means that the run has not moved."""
    advanced_at: float = field(init=False)
    run_id: str | None = None
    attempt: int = 0
    error: str | None = None
    running: dict[str, Running] = field(default_factory=dict)
    boots: BootsProgress = field(default_factory=BootsProgress)
    pace: Mapping[str, Any] | None = None
    """What another process has sent of ``boots``."""
    began: float = field(init=False)
    """When the process began."""
    run_began: float | None = None
    work_began: float | None = None
    ended: float | None = None
    paused_since: str = ""
    paused_until: str = ""
    """Of a pause of starts; empty where there is none."""
    _settled: dict[str, tuple[Kind, Did]] = field(default_factory=dict)
    """The outcome of each, and what was done; an instance that was held and released counts once."""

    def __post_init__(self) -> None:
        """Start with the process."""
        self.began = self.advanced_at = self.clock()
        self.phases = [("starting", self.began)]

    def observe(self, event: RunEvent) -> None:
        """Update the state."""
        now = self.clock()
        match event:
            case ActionBegan(uuid, step) if uuid in self.running:
                running = self.running[uuid]
                running.doing, running.doing_since, running.acting = step.action.verb, now, True
            case ActionEnded(uuid, step, error):
                self._advance(now)
                if uuid in self.running:
                    self.running[uuid].doing = step.action.verb
                    self.running[uuid].end_action(now, failed=error is not None)
            case InstanceBegan(uuid, name, project):
                self.running[uuid] = Running(uuid, name, project, now, DECIDING, now)
            case InstanceEnded(outcome):
                self._settle(outcome, now)
                self._observe_boots(event, now)
            case PhaseBegan(phase, detail):
                self._begin_phase(phase, detail)
            case RunBegan(run_id, attempt):
                self.run_id, self.attempt, self.run_began = run_id, attempt, now
            case WorkFound(total):
                self.total, self.work_began = total, now
            case RunEnded():
                self.ended = now
                self._begin_phase("done")
            case _:
                self._observe_boots(event, now)

    def _observe_boots(self, event: RunEvent, now: float) -> None:
        self.boots.observe(event, round(now - self.began, 3))
        if isinstance(event, InstanceReady):
            self._advance(now)

    def _settle(self, outcome: Outcome, now: float) -> None:
        self.running.pop(outcome.uuid, None)
        self._advance(now)
        if outcome.uuid in self._settled:
            kind, did = self._settled[outcome.uuid]
            self.kinds[kind] -= 1
            self.did[did] -= 1
        self._settled[outcome.uuid] = (outcome.kind, outcome.did)
        self.kinds[outcome.kind] += 1
        self.did[outcome.did] += 1
        self.warnings += bool(outcome.warnings)

    def start_failed(self, error: str) -> None:
        """Store what ended the start."""
        self._begin_phase("failed", error)
        self.error = error

    def pause(self, since: str, until: str) -> None:
        """Store that starts are paused; not any more if both are empty."""
        self.paused_since, self.paused_until = since, until
        self._advance(self.clock())

    def _begin_phase(self, phase: str, detail: str = "") -> None:
        if phase != self.phase:
            now = self.clock()
            self.phases.append((phase, now))
            self._advance(now)
        elif detail:
            self.retries[phase] += 1
        self.detail = detail

    def _advance(self, now: float) -> None:
        self.advances += 1
        self.advanced_at = now

    @property
    def phase(self) -> str:
        """The current phase."""
        return self.phases[-1][0]

    @property
    def done(self) -> int:
        """How many instances are settled."""
        return self.kinds.total()

    def rate(self) -> float | None:
        """Return how many instances a second were settled; None before the first."""
        if self.work_began is None or not self.done:
            return None
        spent = (self.ended or self.clock()) - self.work_began
        return self.done / spent if spent > 0 else None

    def snapshot(self) -> Snapshot:
        """Return how far it is now."""
        now, rate = self.clock(), self.rate()
        longest_first = sorted(self.running.values(), key=lambda one: one.since)
        left = max(0, self.total - self.done)
        return Snapshot(
            phase=self.phase,
            detail=self.detail,
            phase_age_s=now - self.phases[-1][1],
            age_s=now - self.began,
            total=self.total,
            counts={kind: self.kinds[kind] for kind in Kind},
            did={did: self.did[did] for did in Did},
            warnings=self.warnings,
            running=tuple(
                InstanceNow(one.uuid, one.doing, now - one.since, now - one.doing_since, one.name, one.project)
                for one in longest_first
            ),
            rate=rate,
            # None waits any more: how long the last ones take does not follow from how long the others took.
            eta_s=None if rate is None or 0 < left <= len(longest_first) else left / rate,
            advances=self.advances,
            # A run that waits for the end of a pause makes no progress, and is not stuck.
            idle_s=0.0 if self.paused_until and self.ended and not self.running else now - self.advanced_at,
            run_id=self.run_id,
            attempt=self.attempt,
            error=self.error,
            pace=self.pace or self.boots.document(),
            paused_until=self.paused_until,
        )

    def dump(self) -> dict[str, Any]:
        """Return the state as JSON holds it; the times are of the clock of this host."""
        return {
            **{name: getattr(self, name) for name in DUMPED},
            "kinds": {kind.value: count for kind, count in self.kinds.items()},
            "did": {did.value: count for did, count in self.did.items()},
            "pace": self.boots.document(),
            "running": [
                [one.uuid, one.name, one.project, one.since, one.doing, one.doing_since, one.acting, one.actions]
                for one in self.running.values()
            ],
        }

    def restore(self, dumped: Mapping[str, Any]) -> None:
        """Store the state that another process of this host has sent."""
        for name in DUMPED:
            setattr(self, name, dumped[name])
        self.retries = Counter(self.retries)
        self.kinds = Counter({Kind(kind): count for kind, count in dumped["kinds"].items()})
        self.did = Counter({Did(did): count for did, count in dumped["did"].items()})
        self.running = {one[0]: Running(*one) for one in dumped["running"]}
        self.pace = dumped["pace"]
