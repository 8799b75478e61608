"""Guests of a run that boot, counted as they do: how many, when each was ready, and the limit over time."""

from dataclasses import dataclass, field
from typing import Any, Final

from bringup.daemon.decisions.describe_readiness import ready_text, slowest_of, times_json
from bringup.daemon.decisions.pace import Sighting
from bringup.daemon.decisions.readiness import BOOTS, READY_BY, Readiness, TimeToReady, time_to_ready
from bringup.daemon.decisions.run_events import (
    InstanceBoots,
    InstanceEnded,
    InstanceReady,
    InstanceVerified,
    PaceSeen,
    RunEvent,
)
from bringup.daemon.decisions.verdicts import GuestVerdict, counts_of, verdicts_text

SILENT: Final = "nothing"
"""Counted under this are those that have not shown that they are ready."""
MOST_SHOWN: Final = 20
"""Guests that are not reachable, by name; the others are counted."""
MOST_POINTS: Final = 120
"""Points of the picture: from then on every second one is dropped."""


@dataclass(slots=True)
class BootsProgress:
    """State of the guests that were started, updated by the events of the run."""

    booting: dict[str, None] = field(default_factory=dict)
    started: int = 0
    found: dict[str, Readiness] = field(default_factory=dict)
    verdicts: dict[str, GuestVerdict] = field(default_factory=dict)
    sighting: Sighting | None = None
    """The last look; None: there was none."""
    points: list[tuple[float, int, int, float | None]] = field(default_factory=list)
    """Seconds since the process began, the limit, how many boot, and how many times slower than alone."""
    _names: dict[str, str] = field(default_factory=dict)
    _document: dict[str, Any] | None = None
    """As it was last made; None: something has changed since."""

    def observe(self, event: RunEvent, at_s: float) -> None:
        """Update the state."""
        match event:
            case InstanceEnded(outcome):
                if outcome.did in BOOTS:
                    self._names[outcome.uuid] = outcome.name
                return
            case InstanceBoots(uuid):
                self.verdicts.pop(uuid, None)
                self.started += uuid not in self.found
                self.booting[uuid] = None
            case InstanceReady(uuid, readiness):
                self.booting.pop(uuid, None)
                self.found[uuid] = readiness
            case InstanceVerified(uuid, verdict):
                self.verdicts[uuid] = verdict
            case PaceSeen(sighting):
                self.sighting = sighting
                self._draw(sighting, at_s)
            case _:
                return
        self._document = None

    def _draw(self, seen: Sighting, at_s: float) -> None:
        point = (at_s, seen.limit, seen.booting, None if seen.stretch is None else round(seen.stretch, 2))
        if self.points and self.points[-1][1:] == point[1:]:
            return
        if len(self.points) >= MOST_POINTS:
            self.points = self.points[::2]
        self.points.append(point)

    @property
    def times(self) -> TimeToReady:
        """How long guests took until they were ready."""
        return time_to_ready(self.found.values(), started=self.started)

    def document(self) -> dict[str, Any] | None:
        """Return it as JSON values; None: no guest was started yet."""
        if self.started and self._document is None:
            self._document = self._made()
        return self._document

    def _made(self) -> dict[str, Any]:
        seen = self.sighting
        return {
            "limit": None if seen is None else seen.limit,
            "stretch": None if seen is None or seen.stretch is None else round(seen.stretch, 2),
            "memory_is_short": seen is not None and seen.brakes,
            "booting": len(self.booting),
            "text": self._text(),
            "ready": times_json(self.times, slowest_of(self.found, self._names)),
            "by": {by or SILENT: sum(each.by == by for each in self.found.values()) for by in (*READY_BY, None)},
            "verdicts": {**counts_of(self.verdicts.values()), "guests": self._unreachable()},
            "points": [list(point) for point in self.points],
        }

    def _text(self) -> str:
        seen = self.sighting
        parts = [f"{len(self.booting)} booting"] if self.booting else []
        if seen is not None and self.booting:
            parts.append(f"limit {seen.limit}")
            parts += [] if seen.stretch is None else [f"{seen.stretch:.1f} times slower than alone"]
            parts += ["memory is short"] if seen.brakes else []
        verdicts = verdicts_text(counts_of(self.verdicts.values()))
        return ", ".join([*parts, ready_text(self.times), *([verdicts] if verdicts else [])])

    def _unreachable(self) -> list[dict[str, str]]:
        """Return the guests that are broken, then those that are silent, of many the first."""
        found = [(uuid, each) for uuid, each in self.verdicts.items() if each.word != "reachable"]
        found.sort(key=lambda item: item[1].word)
        return [
            {"uuid": uuid, "name": self._names.get(uuid, ""), "verdict": each.word, "why": each.why, "text": each.text}
            for uuid, each in found[:MOST_SHOWN]
        ]
