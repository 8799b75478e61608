"""What ``/status`` answers (``status.schema.json``), built from values.  A key that is here stays; more may come."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from bringup.daemon.status.endpoint.source import Source
from bringup.daemon.status.snapshot import Snapshot
from bringup.daemon.status.timeline import GROUPS
from bringup.daemon.storage.outbox.base import Pending

FORMAT = "bringup.status/1"
TIMELINE_FORMAT = "bringup.timeline/1"
MOST_FAILURES = 1000


def status(source: Source, pending: Pending) -> dict[str, Any]:
    """Give the whole answer."""
    snapshot, recorder = source.progress.snapshot(), source.recorder
    urgent = list(recorder.urgent.values())
    return {
        "format": FORMAT,
        **head(source, snapshot),
        "boot_id": source.boot_id,
        "version": source.version,
        "started_at": _text_of(source, source.progress.began),
        "phases": phases(source),
        "failures": [each for each in urgent if each["outcome"] not in ("initialized", "skipped")][:MOST_FAILURES],
        "warnings": [each for each in urgent if each["outcome"] in ("initialized", "skipped")][:MOST_FAILURES],
        "left_out": max(0, len(urgent) - MOST_FAILURES),
        "deferred": {"waiting": source.waiting, "next_look_s": _rounded(source.next_look_s())},
        "filter": {
            "put_back": source.filter.put_back,
            "last_at": None if source.filter.last_at is None else _written(source.filter.last_at),
            "problem": source.filter.problem,
        },
        "reports": {"waiting": pending.count, "oldest_s": _rounded(pending.oldest_s)},
    }


def head(source: Source, snapshot: Snapshot) -> dict[str, Any]:
    """Give what changes all the time: it is also the ``progress`` of the events."""
    return {
        "host": source.host,
        "state": source.state().value,
        "ready": source.state().value == "ready",
        "reason": source.reason(snapshot),
        "percent": source.percent(snapshot),
        "phase": snapshot.phase,
        "detail": snapshot.detail,
        "phase_s": round(snapshot.phase_age_s, 3),
        "uptime_s": round(snapshot.age_s, 3),
        "run": _run(source, snapshot),
        "counts": {kind.value: count for kind, count in snapshot.counts.items()},
        "running": [
            {
                "uuid": one.uuid,
                "action": one.verb,
                "age_s": round(one.age_s, 3),
                "action_age_s": round(one.verb_age_s, 3),
            }
            for one in snapshot.running
        ],
    }


def _run(source: Source, snapshot: Snapshot) -> Mapping[str, Any] | None:
    if snapshot.run_id is None:
        return None
    progress = source.progress
    return {
        "run_id": snapshot.run_id,
        "attempt": snapshot.attempt,
        "began_at": None if progress.run_began is None else _text_of(source, progress.run_began),
        "ended_at": None if progress.ended is None else _text_of(source, progress.ended),
        "total": snapshot.total,
        "done": snapshot.done,
        "waiting": snapshot.waiting,
        "with_warnings": snapshot.warnings,
        "rate": _rounded(snapshot.rate),
        "eta_s": _rounded(snapshot.eta_s) if progress.ended is None else None,
    }


def phases(source: Source) -> list[dict[str, Any]]:
    """Give every phase with the seconds since the start at which it began and ended."""
    known = [(name, source.recorder.seconds(began)) for name, began in source.progress.phases]
    ends: list[float | None] = [began for _, began in known[1:]]
    return [
        {"phase": name, "began_s": began, "ended_s": ended}
        for (name, began), ended in zip(known, [*ends, None], strict=True)
        if name not in ("done", "failed")
    ]


def timeline_head(source: Source) -> dict[str, Any]:
    """Give what stands before the bars of a timeline."""
    snapshot = source.progress.snapshot()
    return {
        "format": TIMELINE_FORMAT,
        "host": source.host,
        "version": source.version,
        "run_id": snapshot.run_id,
        "started_at": _text_of(source, source.progress.began),
        "now_s": source.recorder.at_s(),
        "work_found_s": _seconds(source, source.progress.work_began),
        "ended_s": _seconds(source, source.progress.ended),
        "total": snapshot.total,
        "phases": phases(source),
        "groups": {
            name: {"label": group.label, "colour": group.colour, "verbs": list(group.verbs)}
            for name, group in GROUPS.items()
        },
        "last_event_id": source.recorder.feed.last_id,
    }


def _seconds(source: Source, at: float | None) -> float | None:
    return None if at is None else source.recorder.seconds(at)


def _text_of(source: Source, at: float) -> str:
    return _written(source.recorder.started_at + timedelta(seconds=source.recorder.seconds(at)))


def _written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
