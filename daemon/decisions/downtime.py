"""How long this host was away before this boot: judged from when it was last known to be up, by clocks that were set.

No I/O, no clock, no logger.  "Unknown" brings no guest back whose time away matters.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Up:
    """What was last noted of one boot."""

    boot_id: str
    at: float
    """When the host was last known to be up, in seconds since 1970."""
    is_clock_set: bool
    """Whether a time service had set the clock by then."""
    is_kept: bool
    """Whether it is noted all the time: else the host may have been up for long after it."""
    first_boot_s: float
    """When a run first began on that boot, by a clock that begins with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Downtime:
    """How long the host was away."""

    exactly_s: float | None = None
    """None: unknown."""
    at_most_s: float | None = None
    """It was not longer than this; None: unknown too."""
    waits_for_clock: bool = False
    """It is known as soon as the clock is set."""


def judge(
    ups: Sequence[Up], boot_id: str, *, now: float, boot_s: float, is_clock_set: bool, trusts_clock: bool
) -> Downtime:
    """Judge from what was noted of the boots, the latest last.

    ``boot_s`` is the clock that begins with the boot.  A clock that no time service has set is trusted where
    ``trusts_clock``, or where none has ever set it as far as is known: then the host has no time service.
    """
    this = next((up for up in reversed(ups) if up.boot_id == boot_id), None)
    before = [up for up in ups if up.boot_id != boot_id]
    if not before:
        return Downtime()
    was_ever_set = any(up.is_clock_set for up in before)
    if not is_clock_set and was_ever_set and not trusts_clock:
        return Downtime(waits_for_clock=True)
    # The time until the first run of this boot: a later one judges the same.
    came_at = now - (0.0 if this is None else boot_s - this.first_boot_s)
    last = before[-1]
    if last.is_clock_set or trusts_clock or not (was_ever_set or is_clock_set):
        away_s = came_at - last.at
        # A clock that went back says nothing.
        if away_s < 0:
            return Downtime()
        return Downtime(exactly_s=away_s if last.is_kept else None, at_most_s=away_s)
    # The clock of the last boot was never set: what was noted on it says nothing, the boots before it say at most what.
    known = [up.at for up in before if up.is_clock_set]
    away_s = came_at - max(known) if known else -1.0
    return Downtime(at_most_s=away_s) if away_s >= 0 else Downtime()
