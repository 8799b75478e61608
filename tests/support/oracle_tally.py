"""Counts what was done with each row of the oracle, and prints the counts when the tests are over.

A pytest plugin: each conformance test leaves its counts as a property of its report, which xdist carries home.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from support.oracle_words import OUT_OF_SCOPE

PROPERTY = "oracle"
DECIDED_BY_34 = "nova 34 decides"
NO_CASE_AT_HAND = "no case at hand takes the path"
REASONS = frozenset({*OUT_OF_SCOPE.values(), DECIDED_BY_34, NO_CASE_AT_HAND})
_SHOWN = 12


class Tally:
    """What was done with each row of one file."""

    def __init__(self, file: str, rows: Sequence[object]) -> None:
        self._file = file
        self._rows = len(rows)
        self._replayed = 0
        self._runs = 0
        self._out_of_scope: Counter[str] = Counter()
        self._problems: list[str] = []

    def replayed(self, *, runs: int, problems: Sequence[str] = ()) -> None:
        """Count a row that was replayed in so many runs; ``problems`` say how we differ."""
        self._replayed += 1
        self._runs += runs
        self._problems += problems[:1]

    def out_of_scope(self, reason: str) -> None:
        """Count a row that is not replayed."""
        self._out_of_scope[reason] += 1

    def close(self, record_property: Callable[[str, object], None]) -> None:
        """Hand the counts in; fail if a row differs, was not counted, or is out of scope for no known reason."""
        counts = {
            "file": self._file,
            "rows": self._rows,
            "replayed": self._replayed,
            "runs": self._runs,
            "out_of_scope": dict(self._out_of_scope),
        }
        record_property(PROPERTY, counts)
        assert set(self._out_of_scope) <= REASONS
        assert self._replayed + self._out_of_scope.total() == self._rows
        if self._problems:
            shown = "\n\n".join(self._problems[:_SHOWN])
            pytest.fail(f"{len(self._problems)} rows of {self._file} differ\n{shown}", pytrace=False)


class _Summary:
    """Collects counts on the side that prints: under xdist that is not the one that runs the tests."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            return
        for name, counts in report.user_properties:
            if name == PROPERTY and isinstance(counts, dict):
                known = self._counts.get(counts["file"])
                if known is None or known["runs"] < counts["runs"]:
                    self._counts[counts["file"]] = counts

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._counts:
            return
        terminalreporter.write_sep("=", "oracle: rows replayed")
        for file, counts in sorted(self._counts.items()):
            terminalreporter.write_line(
                f"{file:34} {counts['rows']:5} rows {counts['replayed']:5} replayed ({counts['runs']} runs)"
            )
            for reason, count in sorted(counts["out_of_scope"].items()):
                terminalreporter.write_line(f"{'':34} {count:5} out of scope: {reason}")


def pytest_configure(config: pytest.Config) -> None:
    """Register the summary."""
    config.pluginmanager.register(_Summary(), "oracle-summary")
