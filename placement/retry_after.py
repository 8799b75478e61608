"""``Retry-After``: what a server demands, and how long it is waited for."""

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Return the ``Retry-After`` of an answer in seconds; None where there is none, or none that can be read.

    A date is relative to the server's clock: that of a booting host may be wrong by years.
    """
    now = _date(headers.get("Date", "")) or datetime.now(UTC)
    return parse_retry_after(headers.get("Retry-After"), now=now)


def parse_retry_after(value: str | None, *, now: datetime) -> float | None:
    """Parse a ``Retry-After`` header, seconds or a date, as seconds from ``now``; None if it is neither."""
    if value is None:
        return None
    if value.isascii() and value.strip().isdecimal():
        return float(value)
    moment = _date(value)
    return None if moment is None else max((moment - now).total_seconds(), 0.0)


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC)


def jittered(retry_after_s: float | None, *, at_most_s: float) -> float:
    """Return the seconds to wait for a ``Retry-After``: bounded, and up to a quarter more; 0 without one.

    Hosts that one answer sent away must not come back at once.
    """
    # The jitter of a wait is no secret.
    return 0.0 if retry_after_s is None else min(retry_after_s, at_most_s) * random.uniform(1, 1.25)  # noqa: S311
