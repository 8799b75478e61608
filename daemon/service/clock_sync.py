"""Whether the wall clock of this host has been set by a time service, such as systemd-timesyncd, chrony or ntpd."""

import ctypes
import subprocess
from pathlib import Path

from bringup.drivers.environment import child_environment

SYNCHRONIZED = Path("/run/systemd/timesync/synchronized")
"""systemd-timesyncd makes it when it has set the clock once on this boot."""
SYSTEMD = Path("/run/systemd/system")
ASK = ("timedatectl", "show", "--property=NTPSynchronized", "--value")
ASK_S = 5.0
MOST_OFF_US = 16_000_000
"""The kernel's estimate of the error from which on systemd does not take the clock for set."""
_SYNCHRONIZED_STATES = range(5)
"""What adjtimex(2) returns of a clock that is synchronized; 5 (TIME_ERROR): it is not."""


def is_set() -> bool:
    """Tell whether the clock has been set; False too where that cannot be found out."""
    if SYNCHRONIZED.exists():
        return True
    kernels = _ask_kernel()
    return _ask_systemd() if kernels is None else kernels


def _ask_kernel() -> bool | None:
    """Ask the kernel; None where it may not be asked (``ProtectClock=`` of a unit)."""
    # struct timex has 208 bytes; its modes, the first word, are 0: nothing is changed.  maxerror is the fourth word.
    timex = (ctypes.c_long * 64)()
    state = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    return None if state < 0 else state in _SYNCHRONIZED_STATES and timex[3] < MOST_OFF_US


def _ask_systemd() -> bool:
    if not SYSTEMD.is_dir():
        return False
    try:
        ended = subprocess.run(  # noqa: S603 - what is run is a constant
            ASK,
            capture_output=True,
            text=True,
            timeout=ASK_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env=child_environment(),
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return ended.stdout.strip() == "yes"
