"""What the status endpoint shows of a run: the timeline, what needs attention, histograms, the events."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from bringup.daemon.decisions.advice import advice_of, for_one
from bringup.daemon.decisions.describe import need_json
from bringup.daemon.decisions.describe_readiness import ready_json, ready_word
from bringup.daemon.decisions.from_needs import is_tried_again
from bringup.daemon.decisions.outcomes import Kind, Outcome
from bringup.daemon.decisions.run_events import (
    ActionBegan,
    ActionEnded,
    InstanceBegan,
    InstanceEnded,
    InstanceReady,
    InstanceVerified,
    PhaseBegan,
    RunBegan,
    RunEnded,
    RunEvent,
    WorkFound,
)
from bringup.daemon.status.boots_progress import SILENT
from bringup.daemon.status.endpoint.ended_bar import EndedBar, attention_text
from bringup.daemon.status.endpoint.event_feed import KEEP, Feed, encoded
from bringup.daemon.status.endpoint.histograms import Histogram
from bringup.daemon.status.progress import DECIDING, Progress, Running
from bringup.daemon.status.timeline import RUNNING_MARK

MESSAGE_LENGTH = 2000
HISTOGRAMS: Final = ("actions", "instances", "queued", "boots")


def _nobody(_uuid: str, _bar: EndedBar) -> None:
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
        self.on_settled: Callable[[str, EndedBar], None] = _nobody
        """Notified of every bar that ended, with its UUID."""
        self.urgent: dict[str, dict[str, Any]] = {}
        """What needs attention, by UUID, in the order in which it ended."""
        self.actions = Histogram()
        self.instances = Histogram()
        self.queued = Histogram()
        self.boots = Histogram()
        self._settled: dict[str, EndedBar] = {}

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
        self._observe_ready(event)
        match event:
            case ActionBegan(uuid, step) if uuid in progress.running:
                self._publish("action", uuid=uuid, action=step.action.verb)
            case ActionEnded(uuid, step, error) if uuid in progress.running:
                took_s = progress.running[uuid].actions[-1][2]
                self.actions.observe((step.action.verb, "error" if error is not None else "ok"), took_s)
            case InstanceBegan(uuid, name, project):
                if progress.work_began is not None and progress.ended is None:
                    self.queued.observe((), progress.running[uuid].since - progress.work_began)
                self._publish("began", uuid=uuid, name=name, project=project, action=DECIDING, mark=RUNNING_MARK)
            case InstanceEnded(outcome):
                self._end_bar(outcome, ended)
            case PhaseBegan(phase, detail):
                self._publish("phase", phase=phase, detail=detail)
            case RunBegan(run_id, attempt):
                self._publish("run", run_id=run_id, attempt=attempt)
            case WorkFound(total):
                self._publish("work", total=total)
            case RunEnded():
                self._publish("done")

    def _publish(self, name: str, /, **facts: Any) -> None:
        self.feed.publish(name, {**facts, "at_s": self.at_s()})

    def _observe_ready(self, event: RunEvent) -> None:
        if isinstance(event, InstanceReady):
            found = event.readiness
            self.boots.observe((found.by or SILENT,), found.boot_s)
            self.feed.publish("ready", {"uuid": event.uuid, **(ready_json(found) or {}), "text": ready_word(found)})
        if isinstance(event, InstanceVerified):
            verdict = event.verdict
            self._publish("verified", uuid=event.uuid, verdict=verdict.word, why=verdict.why, text=verdict.text)

    def _end_bar(self, outcome: Outcome, running: Running | None) -> None:
        """End a bar; an instance that was settled before this process began has none."""
        before = self.urgent.pop(outcome.uuid, {})
        attention = attention_text(outcome.kind, outcome.did, warns=bool(outcome.warnings))
        since = before.get("deferred_since") or self._text_of_now() if outcome.kind is Kind.DEFERRED else None
        if attention is not None:
            self.urgent[outcome.uuid] = {**_urgent(outcome, attention), "deferred_since": since}
        if running is not None:
            running.end(self.progress.clock())
            self.instances.observe((outcome.kind.value,), outcome.took_s)
        problem = outcome.problem
        waits = "" if since is None else f"; deferred since {since}"
        facts = encoded(
            {
                "uuid": outcome.uuid,
                "began_s": None if running is None else self.seconds(running.since),
                "ended_s": self.at_s(),
                "outcome": outcome.kind.value,
                "did": outcome.did.value,
                "because": outcome.because,
                "warnings": len(outcome.warnings),
                "message": None if problem is None else shortened(f"{problem.action}: {problem.message}{waits}"),
                "actions": [] if running is None else self._actions(running),
                "name": outcome.name,
                "project": outcome.project_id,
            }
        )
        self.settle(outcome.uuid, EndedBar(facts, outcome.took_s))

    def _text_of_now(self) -> str:
        at = self.started_at + timedelta(seconds=self.at_s())
        return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

    def _actions(self, running: Running) -> list[tuple[str, float, float, bool]]:
        return [(verb, self.seconds(began), took_s, failed) for verb, began, took_s, failed in running.actions]

    def settle(self, uuid: str, bar: EndedBar) -> None:
        """Keep a bar that ended."""
        self._settled[uuid] = bar
        self.on_settled(uuid, bar)
        self.feed.publish("ended", bar.shown)

    def settled(self) -> list[tuple[str, EndedBar]]:
        """Return every bar that ended, with its UUID."""
        return list(self._settled.items())

    def restore_settled(self, uuid: str, bar: EndedBar) -> None:
        """Keep a bar that ended before this process began."""
        self._settled[uuid] = bar

    def dump(self) -> dict[str, Any]:
        """Return the histograms as JSON holds them."""
        return {name: getattr(self, name).dump() for name in HISTOGRAMS}

    def restore(self, dumped: Mapping[str, Any]) -> None:
        """Store the histograms that another process of this host has sent."""
        for name in HISTOGRAMS:
            getattr(self, name).restore(dumped[name])

    def bars(self) -> Iterator[str]:
        """Return every bar as JSON: those that ended, then those that run; the run may proceed meanwhile."""
        for bar in list(self._settled.values()):
            yield bar.shown()
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


def _urgent(outcome: Outcome, attention: str) -> dict[str, Any]:
    problem = outcome.problem or next(iter(outcome.warnings), None)
    return {
        "uuid": outcome.uuid,
        "name": outcome.name,
        "project": outcome.project_id,
        "attention": attention,
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
