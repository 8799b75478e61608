"""Documents of ``/status`` (``status.schema.json``) and ``/timeline``, built from values.  Keys stay; more may come."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from bringup.daemon.decisions.outcomes import NEED_ATTENTION, Did, Kind
from bringup.daemon.status.endpoint.source import State, StatusSource
from bringup.daemon.status.snapshot import ALSO_OUTCOMES, Snapshot, counts_line, headline
from bringup.daemon.status.timeline import FAILED_COLOUR, GROUPS, OTHER, WARNING
from bringup.daemon.storage.outbox.base import Pending
from bringup.daemon.text import in_plain_words
from bringup.daemon.time_spans import in_words
from bringup.drivers.needs import NeedKind

FORMAT = "bringup.status/1"
TIMELINE_FORMAT = "bringup.timeline/1"
MOST_FAILURES = 1000
DONE = [did for did in Did if did not in ALSO_OUTCOMES]
LOST = (Did.DESTROYED, Did.DELETED, Did.SET_TO_ERROR, Did.UNKNOWN)
PAUSE = NeedKind.PAUSE.value
UNKNOWN = "–"  # noqa: RUF001 - the dash is meant


def status(source: StatusSource, pending: Pending) -> dict[str, Any]:
    """Return the whole answer."""
    snapshot, recorder = source.progress.snapshot(), source.recorder
    urgent = [_with_wait(source, each) for each in recorder.urgent.values()]
    return {
        "format": FORMAT,
        **head(source, snapshot),
        "boot_id": source.boot_id,
        "version": source.version,
        "started_at": _text_of(source, source.progress.began),
        "phases": phases(source),
        "failures": [each for each in urgent if each["attention"] != WARNING][:MOST_FAILURES],
        "warnings": [each for each in urgent if each["attention"] == WARNING][:MOST_FAILURES],
        "omitted": max(0, len(urgent) - MOST_FAILURES),
        "pause": pause(source),
        "deferred": {"waiting": source.waiting, "next_check_s": _rounded(source.next_check_s())},
        "filter": {
            "restored": source.filter.restored,
            "last_at": None if source.filter.last_at is None else _written(source.filter.last_at),
            "problem": source.filter.problem,
        },
        "reports": {"waiting": pending.count, "oldest_s": _rounded(pending.oldest_s)},
    }


def _with_wait(source: StatusSource, instance: Mapping[str, Any]) -> dict[str, Any]:
    """Return an instance with how long it has been deferred by now."""
    since = instance["deferred_since"]
    if since is None:
        return {**instance, "deferred_s": None}
    recorder = source.recorder
    waited = recorder.started_at + timedelta(seconds=recorder.at_s()) - datetime.fromisoformat(since)
    return {**instance, "deferred_s": _rounded(max(0.0, waited.total_seconds()))}


def pause(source: StatusSource) -> dict[str, Any] | None:
    """Return the pause of starts, with how many guests it keeps off; None: starts are not paused."""
    progress = source.progress
    if not progress.paused_until:
        return None
    return {"since": progress.paused_since, "until": progress.paused_until, "waiting": held_back(source)}


def held_back(source: StatusSource) -> int:
    """Return how many instances wait for the end of a pause of starts."""
    return sum(any(need["kind"] == PAUSE for need in each["needs"]) for each in source.recorder.urgent.values())


def head(source: StatusSource, snapshot: Snapshot) -> dict[str, Any]:
    """Return what changes all the time: it is also the ``progress`` of the events."""
    return {
        "host": source.host,
        "state": source.state().value,
        "state_text": _state_text(source, snapshot),
        "ready": source.state().value == "ready",
        "reason": source.reason(snapshot),
        "headline": headline(snapshot),
        "counts_text": counts_line(snapshot),
        "percent": source.percent(snapshot),
        "phase": snapshot.phase,
        "detail": snapshot.detail,
        "phase_s": round(snapshot.phase_age_s, 3),
        "uptime_s": round(snapshot.age_s, 3),
        "run": _run(source, snapshot),
        "tiles": tiles(source, snapshot),
        "counts": {kind.value: count for kind, count in snapshot.counts.items()},
        "did": {did.value: count for did, count in snapshot.did.items()},
        "pace": snapshot.pace,
        "running": [
            {
                "uuid": one.uuid,
                "name": one.name,
                "project": one.project,
                "action": one.verb,
                "age_s": round(one.age_s, 3),
                "action_age_s": round(one.verb_age_s, 3),
                "took": in_words(one.age_s),
                "summary": one.summary,
            }
            for one in snapshot.running
        ],
    }


def _state_text(source: StatusSource, snapshot: Snapshot) -> str:
    state = source.state()
    return f"{state.value} {source.percent(snapshot)} %" if state is State.INITIALIZING else state.value


def tiles(source: StatusSource, snapshot: Snapshot) -> list[dict[str, str]]:
    """Return what the page shows of the run in large type: texts, and what a number other than 0 means."""
    progress, counts = source.progress, snapshot.counts
    if progress.ended is not None:
        time = ("it took", in_words(progress.ended - progress.began))
    else:
        time = ("time left", UNKNOWN if snapshot.eta_s is None else in_words(snapshot.eta_s))
    shown = [
        ("settled", f"{snapshot.done}", f"of {snapshot.total}", ""),
        *((in_plain_words(did.value), f"{snapshot.did[did]}", "", _mood(did)) for did in DONE if snapshot.did[did]),
        ("failed", f"{counts[Kind.FAILED]}", "", "bad"),
        ("held", f"{counts[Kind.HELD]}", "", "warn"),
        ("deferred", f"{counts[Kind.DEFERRED]}", "", "warn"),
        ("superseded", f"{counts[Kind.SUPERSEDED]}", "", ""),
        ("running", f"{len(snapshot.running)}", "", ""),
        *_ready_tiles(snapshot),
        ("waiting", f"{snapshot.waiting}", "", ""),
        ("per second", UNKNOWN if snapshot.rate is None else f"{snapshot.rate:.1f}", "", ""),
        (*time, "", ""),
    ]
    return [
        {"label": label, "value": value, "note": note, "mood": "" if value == "0" else mood}
        for label, value, note, mood in shown
    ]


def _ready_tiles(snapshot: Snapshot) -> list[tuple[str, str, str, str]]:
    if snapshot.pace is None:
        return []
    ready = snapshot.pace["ready"]
    half = UNKNOWN if ready["half_s"] is None else in_words(ready["half_s"])
    return [
        ("booting", f"{snapshot.booting}", "", ""),
        ("ready", f"{ready['ready']}", f"of {ready['started']}", ""),
        ("half ready after", half, "", ""),
    ]


def _mood(did: Did) -> str:
    return "warn" if did in LOST else ""


def _run(source: StatusSource, snapshot: Snapshot) -> Mapping[str, Any] | None:
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


def phases(source: StatusSource) -> list[dict[str, Any]]:
    """Return every phase with the seconds since the start at which it began and ended."""
    known = [(name, source.recorder.seconds(began)) for name, began in source.progress.phases]
    ends: list[float | None] = [began for _, began in known[1:]]
    return [
        {"phase": name, "began_s": began, "ended_s": ended}
        for (name, began), ended in zip(known, [*ends, None], strict=True)
        if name not in ("done", "failed")
    ]


def timeline_head(source: StatusSource) -> dict[str, Any]:
    """Return the timeline without its bars."""
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
        "other": OTHER,
        "failed_colour": FAILED_COLOUR,
        "filters": [[each.value, in_plain_words(each.value)] for each in dict.fromkeys((*NEED_ATTENTION, *DONE))],
        "attention": [*(in_plain_words(each.value) for each in NEED_ATTENTION), WARNING],
        "last_event_id": source.recorder.feed.last_id,
    }


def _seconds(source: StatusSource, at: float | None) -> float | None:
    return None if at is None else source.recorder.seconds(at)


def _text_of(source: StatusSource, at: float) -> str:
    return _written(source.recorder.started_at + timedelta(seconds=source.recorder.seconds(at)))


def _written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
