"""Whether the wall clock of this host has been set by a time service, such as systemd-timesyncd, chrony or ntpd."""

import ctypes
import subprocess
from pathlib import Path

from bringup.drivers.environment import output_of

SYNCHRONIZED = Path("/run/systemd/timesync/synchronized")
"""Created by systemd-timesyncd once it has set the clock on this boot."""
SYSTEMD = Path("/run/systemd/system")
QUERY = ("timedatectl", "show", "--property=NTPSynchronized", "--value")
QUERY_S = 5.0
MOST_OFF_US = 16_000_000
"""The kernel's estimate of the error from which on systemd considers the clock not set."""
_SYNCHRONIZED_STATES = range(5)
"""What adjtimex(2) returns of a clock that is synchronized; 5 (TIME_ERROR): it is not."""


def is_set() -> bool:
    """Check whether the clock has been set; False too if that cannot be determined."""
    if SYNCHRONIZED.exists():
        return True
    kernels = _query_kernel()
    return _query_systemd() if kernels is None else kernels


def _query_kernel() -> bool | None:
    """Query the kernel; None: it does not allow that (``ProtectClock=`` of a unit)."""
    # struct timex has 208 bytes; its modes, the first word, are 0: nothing is changed.  maxerror is the fourth word.
    timex = (ctypes.c_long * 64)()
    state = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    return None if state < 0 else state in _SYNCHRONIZED_STATES and timex[3] < MOST_OFF_US


def _query_systemd() -> bool:
    if not SYSTEMD.is_dir():
        return False
    try:
        return output_of(QUERY, within_s=QUERY_S).strip() == "yes"
    except (OSError, subprocess.SubprocessError):
        return False
