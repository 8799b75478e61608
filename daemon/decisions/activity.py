"""Whether a guest works or is quiet, by its counters.  No I/O, no clock, no logger."""

from typing import Final

from bringup.drivers.base import BootCounters

QUIET_CPU: Final = 0.2
"""Share of one vCPU, below which a guest is quiet."""
QUIET_READS: Final = 5.0
"""Reads a second, below which it is."""


def is_at_work(was: BootCounters, now: BootCounters, passed_s: float) -> bool:
    """Check whether a guest has computed or read from one look to the next."""
    used_s = now.run_s + now.delay_s - was.run_s - was.delay_s
    return used_s >= QUIET_CPU * passed_s or now.reads - was.reads >= QUIET_READS * passed_s
