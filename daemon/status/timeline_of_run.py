"""Timeline of a run in the journal, for ``bringup plot``."""

import json
import sqlite3
from collections import Counter, defaultdict
from datetime import datetime

from bringup.daemon.decisions.outcomes import Did, Kind
from bringup.daemon.status.timeline import Bar, Segment, Timeline
from bringup.daemon.storage.journal.history import History
from bringup.daemon.storage.journal.schema import decoding
from bringup.daemon.text import in_plain_words


@decoding()
def timeline_of(history: History, prefix: str) -> Timeline | None:
    """Return a run as a timeline; None where there is none of that name, or more than one (:meth:`History.run`).

    What was in flight when the process died lasts until the last thing that is known.
    """
    run = history.run(prefix)
    if run is None:
        return None
    zero = _at(str(run["began_at"]))
    instances, actions = history.rows_of(run["run_id"])
    times = [_at(row[name]) for row in actions for name in ("began_at", "ended_at") if row[name]]
    times += [_at(row["settled_at"]) for row in instances if row["settled_at"]]
    end_s = max((at - zero for at in times), default=0.0)
    segments: dict[str, list[Segment]] = defaultdict(list)
    for row in actions:
        began_s = _at(row["began_at"]) - zero
        ended_s = _at(row["ended_at"]) - zero if row["ended_at"] else end_s
        failed = row["error"] is not None or row["ended_at"] is None
        segments[row["uuid"]].append(Segment(row["verb"], began_s, max(ended_s, began_s), failed))
    bars = [_bar(row, segments.get(row["uuid"], []), zero, end_s) for row in instances]
    began = str(run["began_at"])[:19]
    counts = Counter(_did(row) for row in instances)
    return Timeline(
        title=f"{run['host']}: {len(bars)} instances",
        subtitle=f"run {run['run_id']}, began {began} UTC, {run['state']}, attempt {run['attempt']}",
        bars=tuple(sorted(bars, key=lambda bar: (bar.began_s, bar.uuid))),
        counts=dict(counts.most_common()),
    )


def _did(row: sqlite3.Row) -> str:
    """Return what was done to an instance, in words; its outcome if an earlier version wrote the journal."""
    if row["kind"] is None:
        return "unsettled"
    return in_plain_words(str(json.loads(row["outcome"]).get("did") or row["kind"]))


def _bar(row: sqlite3.Row, segments: list[Segment], zero: float, end_s: float) -> Bar:
    outcome = json.loads(row["outcome"]) if row["kind"] is not None else {}
    problem = outcome.get("problem")
    ended_s = _at(row["settled_at"]) - zero if row["settled_at"] else end_s
    took_s = outcome.get("took_s") or 0.0
    starts = [segment.began_s for segment in segments]
    if row["began_at"]:
        starts.append(_at(row["began_at"]) - zero)
    # An instance without an action: its bar is as long as it took.
    began_s = min(starts, default=max(0.0, ended_s - took_s))
    return Bar(
        uuid=row["uuid"],
        began_s=began_s,
        ended_s=max(ended_s, began_s),
        kind=None if row["kind"] is None else Kind(row["kind"]),
        did=Did(outcome["did"]) if "did" in outcome else None,
        message=None if problem is None else f"{problem[0]}: {problem[2]}",
        name=outcome.get("name", ""),
        segments=tuple(segments),
    )


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
