"""Takes down what happens in a run: the timeline, who needs somebody, how long things took.

What is settled is kept as JSON text, ready to be sent: ten thousand instances are a few megabytes, and asking for all
of them costs no more than putting the texts together.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from bringup.daemon.decisions.advice import advice_of, for_one
from bringup.daemon.decisions.describe import need_json
from bringup.daemon.decisions.from_needs import is_tried_again
from bringup.daemon.decisions.outcomes import Kind, Outcome
from bringup.daemon.decisions.rules import Step
from bringup.daemon.status.endpoint.event_feed import KEEP, Feed, encoded
from bringup.daemon.status.endpoint.histograms import Histogram
from bringup.daemon.status.observers import Indifferent

URGENT = (Kind.FAILED, Kind.HELD, Kind.DEFERRED, Kind.SUPERSEDED)
MESSAGE_LENGTH = 2000
TOLD: Final = ("phases", "work_found_s", "run_began_s", "run_ended_s", "retries")
"""What is told to another process as it is."""
HISTOGRAMS: Final = ("actions", "instances", "queued")


@dataclass(slots=True)
class _Running:
    uuid: str
    began_s: float
    verb: str
    verb_began_s: float
    acting: bool = False
    segments: list[tuple[str, float, float, bool]] = field(default_factory=list)

    def end(self, now: float) -> None:
        """Close what is open: an action whose time was up, or an instance with which nothing was to be done."""
        if self.acting or not self.segments:
            self.segments.append((self.verb, self.verb_began_s, round(now - self.verb_began_s, 4), self.acting))


def _nobody(_uuid: str, _text: str) -> None:
    """Tell nobody."""


def shortened(text: str) -> str:
    """Cut what a hypervisor may have made very long."""
    return text if len(text) <= MESSAGE_LENGTH else f"{text[:MESSAGE_LENGTH]}..."


class Recorder(Indifferent):
    """An observer that keeps what the status endpoint tells.  Times are seconds since the process began."""

    def __init__(
        self, now: Callable[[], datetime], clock: Callable[[], float] = time.monotonic, *, keep: int = KEEP
    ) -> None:
        """Begin to take down; ``keep`` events are kept for those who listen here."""
        self.started_at = now()
        self._clock, self.zero = clock, clock()
        self.feed = Feed(f"{int(self.started_at.timestamp() * 1000):x}", keep=keep)
        self.on_settled: Callable[[str, str], None] = _nobody
        """Told of every bar that ended: the UUID, and JSON."""
        self.phases: list[tuple[str, float]] = [("starting", 0.0)]
        self.work_found_s: float | None = None
        self.run_began_s: float | None = None
        self.run_ended_s: float | None = None
        self.urgent: dict[str, dict[str, Any]] = {}
        """Who needs somebody, by UUID, in the order in which they ended."""
        self.retries: Counter[str] = Counter()
        self.actions = Histogram()
        self.instances = Histogram()
        self.queued = Histogram()
        self._running: dict[str, _Running] = {}
        self._settled: dict[str, str] = {}

    def at_s(self) -> float:
        """Tell the time, in seconds since the process began."""
        return round(self._clock() - self.zero, 4)

    def phase_began(self, phase: str, detail: str = "") -> None:
        """Take down a phase; one that begins again waits for another try."""
        if phase != self.phases[-1][0]:
            self.phases.append((phase, self.at_s()))
        elif detail:
            self.retries[phase] += 1
        self.feed.say("phase", {"phase": phase, "detail": detail, "at_s": self.at_s()})

    def run_began(self, run_id: str, attempt: int) -> None:
        """Take down which run it is."""
        self.run_began_s = self.at_s()
        self.feed.say("run", {"run_id": run_id, "attempt": attempt, "at_s": self.run_began_s})

    def work_found(self, total: int) -> None:
        """Take down how many there are."""
        self.work_found_s = self.at_s()
        self.feed.say("work", {"total": total, "at_s": self.work_found_s})

    def instance_began(self, uuid: str) -> None:
        """Begin a bar."""
        now = self.at_s()
        self._running[uuid] = _Running(uuid, now, "decide", now)
        if self.work_found_s is not None and self.run_ended_s is None:
            self.queued.observe((), now - self.work_found_s)
        self.feed.say("began", {"uuid": uuid, "at_s": now})

    def action_began(self, uuid: str, step: Step) -> None:
        """Begin a segment."""
        running = self._running.get(uuid)
        if running is not None:
            running.verb, running.verb_began_s, running.acting = step.action.verb, self.at_s(), True
            self.feed.say("action", {"uuid": uuid, "action": running.verb, "at_s": running.verb_began_s})

    def action_ended(self, uuid: str, step: Step, error: Exception | None) -> None:
        """End a segment."""
        running = self._running.get(uuid)
        if running is None:
            return
        running.acting = False
        took_s = round(self.at_s() - running.verb_began_s, 4)
        running.segments.append((step.action.verb, running.verb_began_s, took_s, error is not None))
        self.actions.observe((step.action.verb, "error" if error is not None else "ok"), took_s)

    def instance_ended(self, outcome: Outcome) -> None:
        """End a bar; an instance that was settled before this process began has none."""
        running = self._running.pop(outcome.uuid, None)
        now = self.at_s()
        self.urgent.pop(outcome.uuid, None)
        if outcome.kind in URGENT or outcome.warnings:
            self.urgent[outcome.uuid] = _urgent(outcome)
        if running is not None:
            running.end(now)
            self.instances.observe((outcome.kind.value,), outcome.took_s)
        problem = outcome.problem
        text = encoded(
            {
                "uuid": outcome.uuid,
                "began_s": None if running is None else running.began_s,
                "ended_s": now,
                "outcome": outcome.kind.value,
                "because": outcome.because,
                "warnings": len(outcome.warnings),
                "message": None if problem is None else shortened(f"{problem.action}: {problem.message}"),
                "actions": [] if running is None else running.segments,
            }
        )
        self.settle(outcome.uuid, text)

    def settle(self, uuid: str, text: str) -> None:
        """Keep a bar that ended, as JSON."""
        self._settled[uuid] = text
        self.on_settled(uuid, text)
        self.feed.say("ended", text)

    def run_ended(self) -> None:
        """Take down the end."""
        self.run_ended_s = self.at_s()
        if self.phases[-1][0] != "done":
            self.phases.append(("done", self.run_ended_s))
        self.feed.say("done", {"at_s": self.run_ended_s})

    def settled(self) -> list[tuple[str, str]]:
        """Give every bar that ended: the UUID, and JSON."""
        return list(self._settled.items())

    def take_settled(self, uuid: str, text: str) -> None:
        """Keep a bar that ended before this process began."""
        self._settled[uuid] = text

    def told(self) -> dict[str, Any]:
        """Give the rest of what is known, but who needs somebody, as JSON holds it."""
        return {
            **{name: getattr(self, name) for name in TOLD},
            **{name: getattr(self, name).told() for name in HISTOGRAMS},
            "running": [
                [one.uuid, one.began_s, one.verb, one.verb_began_s, one.acting, one.segments]
                for one in self._running.values()
            ],
        }

    def take(self, told: Mapping[str, Any]) -> None:
        """Be what another process of this host has told."""
        for name in TOLD:
            setattr(self, name, told[name])
        for name in HISTOGRAMS:
            getattr(self, name).take(told[name])
        self._running = {one[0]: _Running(*one) for one in told["running"]}

    def bars(self) -> Iterator[str]:
        """Give every bar as JSON: those that ended, then those that run; the run may go on meanwhile."""
        yield from list(self._settled.values())
        for running in list(self._running.values()):
            yield encoded(
                {
                    "uuid": running.uuid,
                    "began_s": running.began_s,
                    "ended_s": None,
                    "action": running.verb,
                    "action_began_s": running.verb_began_s,
                    "actions": running.segments,
                }
            )


def _urgent(outcome: Outcome) -> dict[str, Any]:
    problem = outcome.problem or next(iter(outcome.warnings), None)
    return {
        "uuid": outcome.uuid,
        "outcome": outcome.kind.value,
        "because": list(outcome.because),
        "action": None if problem is None else problem.action,
        "error": None if problem is None else problem.error,
        "message": None if problem is None else shortened(problem.message),
        "took_s": round(outcome.took_s, 3),
        "needs": [need_json(need) for need in outcome.needs],
        "tried_again": is_tried_again(outcome.needs),
        "advice": for_one(advice_of(outcome), outcome.uuid),
    }
