"""Times until guests were ready, in a few words and as JSON values.  No I/O, no clock, no logger."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from bringup.daemon.decisions.readiness import SLOWEST, Readiness, TimeToReady
from bringup.daemon.time_spans import in_words

COSTS: Final[Mapping[str, str]] = {
    "queue": "waited for a slot",
    "start": "its start took longest",
    "cpu": "its vCPUs waited for a CPU",
    "disk": "it waited for its disks",
    "boot": "its boot took longest",
}


def ready_text(times: TimeToReady) -> str:
    """Return it in one line: ``12 of 14 ready, the first after 3.1 s, half after 16 s, 1 not known to be ready``."""
    parts = [f"{times.ready} of {times.started} ready"]
    named = (("the first", times.first_s), ("half", times.half_s), ("all", times.all_s))
    parts += [f"{name} after {in_words(found)}" for name, found in named if found is not None]
    if times.not_ready:
        parts.append(f"{times.not_ready} not known to be ready")
    return ", ".join(parts)


def ready_word(found: Readiness) -> str:
    """Return it for one guest: ``16 s (agent; waited for a slot)``."""
    if found.by is None:
        return f"not seen in {in_words(found.boot_s)}"
    return f"{in_words(found.at_s)} ({found.by}; {COSTS[found.cost]})"


def ready_json(found: Readiness | None) -> dict[str, Any] | None:
    """Return it as JSON values; None: it was not started, or is not followed."""
    return None if found is None else {**rounded(asdict(found)), "cost": found.cost, "why": COSTS[found.cost]}


def times_json(times: TimeToReady, slowest: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the times of a run as JSON values, with the guests that took longest."""
    return {**rounded(asdict(times)), "slowest": list(slowest)}


def rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with seconds rounded to milliseconds."""
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in values.items()}


def slowest_of(found: Mapping[str, Readiness], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the guests that took longest until they were ready, with what cost the time."""
    longest_first = sorted(found.items(), key=lambda item: (-item[1].at_s, item[0]))[:SLOWEST]
    return [
        {"uuid": uuid, "name": names.get(uuid, ""), **(ready_json(each) or {}), "text": ready_word(each)}
        for uuid, each in longest_first
    ]
