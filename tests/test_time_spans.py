"""Spans of time as a person says them; how they are read is tested with the settings."""

import pytest

from bringup.daemon.time_spans import in_words


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0 ms"),
        (0.0994, "99 ms"),
        (0.0996, "0.1 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (10, "10 s"),
        (41.4, "41 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3600, "1 h 0 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_a_span_is_written_as_an_operator_says_it(value: float, said: str) -> None:
    assert in_words(value) == said
