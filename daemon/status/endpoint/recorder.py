"""What the status endpoint shows of a run: the timeline, what needs attention, histograms, the events.

What is settled is kept as JSON text, ready to be sent: ten thousand instances are a few megabytes, and a request for
all of them costs no more than joining the texts.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from bringup.daemon.decisions.advice import advice_of, for_one
from bringup.daemon.decisions.describe import need_json
from bringup.daemon.decisions.from_needs import is_tried_again
from bringup.daemon.decisions.outcomes import Outcome, attention_of
from bringup.daemon.decisions.run_events import (
    ActionBegan,
    ActionEnded,
    InstanceBegan,
    InstanceEnded,
    PhaseBegan,
    RunBegan,
    RunEnded,
    RunEvent,
    WorkFound,
)
from bringup.daemon.status.endpoint.event_feed import KEEP, Feed, encoded
from bringup.daemon.status.endpoint.histograms import Histogram
from bringup.daemon.status.progress import DECIDING, Progress, Running
from bringup.daemon.status.timeline import RUNNING_MARK, WARNING, WARNING_MARK, mark_of, outcome_text
from bringup.daemon.text import in_plain_words
from bringup.daemon.time_spans import in_words

MESSAGE_LENGTH = 2000
LONGEST: Final = 6
"""So many actions of an instance are named with the time that they took."""
HISTOGRAMS: Final = ("actions", "instances", "queued")


def _nobody(_uuid: str, _text: str) -> None:
    """Notify nobody."""


def shortened(text: str) -> str:
    """Cut what a hypervisor may have made very long."""
    return text if len(text) <= MESSAGE_LENGTH else f"{text[:MESSAGE_LENGTH]}..."


class Recorder:
    """Observer of a run that keeps what the status endpoint shows.  Times are seconds since the process began."""

    def __init__(
        self, now: Callable[[], datetime], clock: Callable[[], float] = time.monotonic, *, keep: int = KEEP
    ) -> None:
        """Start with the process; ``keep`` events are kept for clients of this process."""
        self.started_at = now()
        self.progress = Progress(clock)
        self.feed = Feed(f"{int(self.started_at.timestamp() * 1000):x}", keep=keep)
        self.on_settled: Callable[[str, str], None] = _nobody
        """Notified of every bar that ended: the UUID, and JSON."""
        self.urgent: dict[str, dict[str, Any]] = {}
        """What needs attention, by UUID, in the order in which it ended."""
        self.actions = Histogram()
        self.instances = Histogram()
        self.queued = Histogram()
        self._settled: dict[str, str] = {}

    def seconds(self, at: float) -> float:
        """Convert a time of the progress to seconds since the process began."""
        return round(at - self.progress.began, 4)

    def at_s(self) -> float:
        """Return the time, in seconds since the process began."""
        return self.seconds(self.progress.clock())

    def observe(self, event: RunEvent) -> None:
        """Update the progress, then keep and send what follows from the event."""
        progress = self.progress
        ended = progress.running.get(event.outcome.uuid) if isinstance(event, InstanceEnded) else None
        progress.observe(event)
        at_s = self.at_s()
        match event:
            case ActionBegan(uuid, step) if uuid in progress.running:
                self.feed.publish("action", {"uuid": uuid, "action": step.action.verb, "at_s": at_s})
            case ActionEnded(uuid, step, error) if uuid in progress.running:
                took_s = progress.running[uuid].actions[-1][2]
                self.actions.observe((step.action.verb, "error" if error is not None else "ok"), took_s)
            case InstanceBegan(uuid, name, project):
                if progress.work_began is not None and progress.ended is None:
                    self.queued.observe((), at_s - self.seconds(progress.work_began))
                known = {"name": name, "project": project, "action": DECIDING, "mark": RUNNING_MARK}
                self.feed.publish("began", {"uuid": uuid, **known, "at_s": at_s})
            case InstanceEnded(outcome):
                self._end_bar(outcome, ended, at_s)
            case PhaseBegan(phase, detail):
                self.feed.publish("phase", {"phase": phase, "detail": detail, "at_s": at_s})
            case RunBegan(run_id, attempt):
                self.feed.publish("run", {"run_id": run_id, "attempt": attempt, "at_s": at_s})
            case WorkFound(total):
                self.feed.publish("work", {"total": total, "at_s": at_s})
            case RunEnded():
                self.feed.publish("done", {"at_s": at_s})

    def _end_bar(self, outcome: Outcome, running: Running | None, at_s: float) -> None:
        """End a bar; an instance that was settled before this process began has none."""
        self.urgent.pop(outcome.uuid, None)
        if _attention(outcome) is not None:
            self.urgent[outcome.uuid] = {"uuid": outcome.uuid, **_named(outcome), **_urgent(outcome)}
        if running is not None:
            running.end(self.progress.clock())
            self.instances.observe((outcome.kind.value,), outcome.took_s)
        problem = outcome.problem
        text = encoded(
            {
                "uuid": outcome.uuid,
                "began_s": None if running is None else self.seconds(running.since),
                "ended_s": at_s,
                "outcome": outcome.kind.value,
                "did": outcome.did.value,
                "because": outcome.because,
                "warnings": len(outcome.warnings),
                "message": None if problem is None else shortened(f"{problem.action}: {problem.message}"),
                "actions": [] if running is None else self._actions(running),
                **_named(outcome),
                **_texts(outcome, running),
            }
        )
        self.settle(outcome.uuid, text)

    def _actions(self, running: Running) -> list[tuple[str, float, float, bool]]:
        return [(verb, self.seconds(began), took_s, failed) for verb, began, took_s, failed in running.actions]

    def settle(self, uuid: str, text: str) -> None:
        """Keep a bar that ended, as JSON."""
        self._settled[uuid] = text
        self.on_settled(uuid, text)
        self.feed.publish("ended", text)

    def settled(self) -> list[tuple[str, str]]:
        """Return every bar that ended: the UUID, and JSON."""
        return list(self._settled.items())

    def restore_settled(self, uuid: str, text: str) -> None:
        """Keep a bar that ended before this process began."""
        self._settled[uuid] = text

    def dump(self) -> dict[str, Any]:
        """Return the histograms as JSON holds them."""
        return {name: getattr(self, name).dump() for name in HISTOGRAMS}

    def restore(self, dumped: Mapping[str, Any]) -> None:
        """Store the histograms that another process of this host has sent."""
        for name in HISTOGRAMS:
            getattr(self, name).restore(dumped[name])

    def bars(self) -> Iterator[str]:
        """Return every bar as JSON: those that ended, then those that run; the run may proceed meanwhile."""
        yield from list(self._settled.values())
        for running in list(self.progress.running.values()):
            yield encoded(
                {
                    "uuid": running.uuid,
                    "began_s": self.seconds(running.since),
                    "ended_s": None,
                    "action": running.doing,
                    "action_began_s": self.seconds(running.doing_since),
                    "actions": self._actions(running),
                    "name": running.name,
                    "project": running.project,
                    "mark": RUNNING_MARK,
                }
            )


def _named(outcome: Outcome) -> dict[str, Any]:
    return {"name": outcome.name, "project": outcome.project_id}


def _attention(outcome: Outcome) -> str | None:
    """Return why an instance needs attention, in words; None where it does not."""
    found = attention_of(outcome.kind, outcome.did)
    if found is None:
        return WARNING if outcome.warnings else None
    return in_plain_words(found.value)


def _texts(outcome: Outcome, running: Running | None) -> dict[str, Any]:
    """Return what the page shows of a bar as it is."""
    attention = _attention(outcome)
    took, ended = in_words(outcome.took_s), outcome_text(outcome.kind, outcome.did)
    longest = sorted([] if running is None else running.actions, key=lambda action: -action[2])[:LONGEST]
    return {
        "mark": WARNING_MARK if attention == WARNING else mark_of(outcome.kind, outcome.did),
        "attention": attention,
        "took": took,
        "summary": f"{ended} after {took}, because {' > '.join(outcome.because) or 'no rule held'}",
        "longest": " · ".join(
            f"{verb} {in_words(took_s)}{' (failed)' if failed else ''}" for verb, _, took_s, failed in longest
        ),
    }


def _urgent(outcome: Outcome) -> dict[str, Any]:
    problem = outcome.problem or next(iter(outcome.warnings), None)
    return {
        "attention": _attention(outcome),
        "outcome": outcome.kind.value,
        "did": outcome.did.value,
        "because": list(outcome.because),
        "action": None if problem is None else problem.action,
        "error": None if problem is None else problem.error,
        "message": None if problem is None else shortened(problem.message),
        "took_s": round(outcome.took_s, 3),
        "needs": [need_json(need) for need in outcome.needs],
        "tried_again": is_tried_again(outcome.needs),
        "advice": for_one(advice_of(outcome), outcome.uuid),
    }
