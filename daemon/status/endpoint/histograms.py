"""Histograms that cost an addition during a run; Prometheus' text for them is made on request."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""From a read of a guest's state to the default deadline of an instance."""


@dataclass(slots=True)
class _Series:
    counts: list[int]
    total: float = 0.0


@dataclass(slots=True)
class Histogram:
    """Durations in seconds by the values of some labels."""

    bounds: Sequence[float] = SECONDS
    _series: dict[tuple[str, ...], _Series] = field(default_factory=dict)

    def observe(self, labels: tuple[str, ...], value: float) -> None:
        """Count a duration."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = _Series([0] * (len(self.bounds) + 1))
        series.counts[bisect_left(self.bounds, value)] += 1
        series.total += value

    def series(self) -> Iterator[tuple[tuple[str, ...], list[tuple[str, float]], float]]:
        """Return labels, cumulative buckets as Prometheus has them (``le``, count), and the sum of each series."""
        for labels, series in sorted(self._series.items()):
            buckets, running = [], 0
            for bound, count in zip((*map(str, self.bounds), "+Inf"), series.counts, strict=True):
                running += count
                buckets.append((bound, float(running)))
            yield labels, buckets, series.total

    def dump(self) -> list[Any]:
        """Return all of it as JSON values."""
        return [[list(labels), series.counts, series.total] for labels, series in self._series.items()]

    def restore(self, dumped: list[Any]) -> None:
        """Restore what another one has dumped."""
        self._series = {tuple(labels): _Series(counts, total) for labels, counts, total in dumped}
