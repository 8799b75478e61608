"""Time spans as systemd writes them (systemd.time(7), up to weeks), and in words.

No I/O, no clock, no logger.
"""

import re

from bringup.drivers.kinds import WEEK

# systemd takes the micro sign and the Greek letter.
UNITS = {
    **dict.fromkeys(("usec", "us", "µs", "μs"), 1e-6),
    **dict.fromkeys(("msec", "ms"), 1e-3),
    **dict.fromkeys(("seconds", "second", "sec", "s"), 1.0),
    **dict.fromkeys(("minutes", "minute", "min", "m"), 60.0),
    **dict.fromkeys(("hours", "hour", "hr", "h"), 3600.0),
    **dict.fromkeys(("days", "day", "d"), 86400.0),
    **dict.fromkeys(("weeks", "week", "w"), WEEK),
}
NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+")
TERM = re.compile(rf"\s*({NUMBER.pattern})\s*([^\W\d_]+)")


def seconds_of(text: str) -> float:
    """Turn a time span, or a number of seconds, into seconds.

    :raises ValueError: it is neither.
    """
    text, position, total = text.strip(), 0, 0.0
    if NUMBER.fullmatch(text):
        return float(text)
    while position < len(text):
        term = TERM.match(text, position)
        if term is None or term[2] not in UNITS:
            raise ValueError("no time span")
        total += float(term[1]) * UNITS[term[2]]
        position = term.end()
    if not text:
        raise ValueError("no time span")
    return total


def in_words(value: float) -> str:
    """Return a time span as text: ``12 ms``, ``0.4 s``, ``41 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if value < 0.0995:  # noqa: PLR2004 - what a tenth of a second would round away
        return f"{max(0.0, value) * 1000:.0f} ms"
    if value < 10:  # noqa: PLR2004 - below, tenths matter
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:  # noqa: PLR2004 - a minute
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:  # noqa: PLR2004 - an hour
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
