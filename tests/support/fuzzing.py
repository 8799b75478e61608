"""What every fuzzer shares: how long it runs, how an input may end, and the table that ``make fuzz`` prints.

A pytest plugin, as :mod:`support.oracle_tally`: the counts of a test travel home as a property of its report.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, Final

import hypothesis
import pytest
from hypothesis import strategies as st

from bringup.daemon.errors import chain_of

FULL: Final = os.environ.get("FUZZ") == "full"
TIMES_MORE: Final = int(os.environ.get("FUZZ_TIMES", "40"))
"""How many times more inputs ``make fuzz`` tries."""
LONGEST_SENTENCE: Final = 40_000
"""Of twenty records or keys that are wrong, each with all that is wrong with it."""
LONGEST_LINE: Final = 4100
PROPERTY: Final = "fuzz"
SECRET: Final = "hush-7f1c9e"
"""Stands where inputs have secrets."""

CHANCES: Final[st.SearchStrategy[Random]] = st.randoms(use_true_random=True)
"""What an input is made by; a failure shows its seed."""


def fuzz(examples: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Try so many inputs, the same each time; with ``make fuzz`` many more, and others each time."""
    return hypothesis.settings(
        max_examples=examples * TIMES_MORE if FULL else examples,
        derandomize=not FULL,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
        print_blob=True,
    )


class Border:
    """Counts how the inputs of one border ended."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.read = 0
        self.refused = 0
        self.otherwise = 0

    @contextmanager
    def one(self, *refusals: type[Exception], secret: bool = False) -> Iterator[None]:
        """Check one input: it is read, or refused by one of these errors with a sentence that may be shown."""
        try:
            try:
                yield
            except refusals as error:
                must_be_a_sentence(chain_of(error), secret=secret)
                self.refused += 1
                return
        except BaseException:
            self.otherwise += 1
            raise
        self.read += 1


def must_be_a_sentence(text: str, *, secret: bool = False) -> None:
    """Assert that a sentence is there, is bounded, is safe for a terminal, and tells no secret."""
    lines = text.split("\n")
    assert text.strip(), "nothing was said"
    assert all(line.isprintable() for line in lines), f"a terminal would obey it: {text[:500]!r}"
    assert len(text) <= LONGEST_SENTENCE, f"{len(text)} characters: {text[:200]!r}..."
    assert all(len(line) <= LONGEST_LINE for line in lines), f"{max(map(len, lines))} characters: {text[:200]!r}..."
    assert not (secret and SECRET in text), f"a secret is told: {text[:500]!r}"


class _Summary:
    """Collects counts on the side that prints: under xdist that is not the one that runs the tests."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "teardown":
            return
        for name, counts in report.user_properties:
            if name == PROPERTY and isinstance(counts, dict):
                ends = {key: count for key, count in counts.items() if key != "border"}
                self._counts.setdefault(counts["border"], Counter()).update(ends)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not FULL or not self._counts:
            return
        terminalreporter.write_sep("=", "fuzz: how inputs ended")
        terminalreporter.write_line(f"{'border':28} {'inputs':>9} {'read':>9} {'refused':>9} {'otherwise':>9}")
        for border, counts in sorted(self._counts.items()):
            columns = " ".join(f"{counts[key]:9}" for key in ("read", "refused", "otherwise"))
            terminalreporter.write_line(f"{border:28} {counts.total():9} {columns}")


def pytest_configure(config: pytest.Config) -> None:
    """Register the summary."""
    config.pluginmanager.register(_Summary(), "fuzz-summary")
