"""The beginning of the process that answers: it gives away what it does not need, before it imports anything.

Capabilities, new privileges, files, memory, its turn.  ``python -m bringup.daemon.status.stripped LISTENER PIPE`` is
:mod:`bringup.daemon.status.listening` without them.  It has the daemon's user: docs/safety.md says what that means.
"""

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from bringup.daemon.status.confined import confine

PR_SET_PDEATHSIG: Final = 1
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
CAPABILITY_VERSION_3: Final = 0x20080522
"""linux/prctl.h, linux/capability.h."""
DESCRIPTORS: Final = 384
"""The places of a listener, what Python has open, and some more."""
MEMORY: Final = 192 << 20
"""Several times what it takes with 10 000 instances; two of them and the daemon are below the limits of the units."""
NICER: Final = 15
"""The work goes first where both want the same processor."""


AGAIN: Final = "again"


def strip() -> None:
    """Give all of it away but the turn; what the kernel or the service manager does not let go of stays."""
    libc = ctypes.CDLL(None, use_errno=True)
    # What a terminal or a service manager sends to all processes is for the daemon, which ends this one.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    # Where the memory of the unit, or of the host, is used up, this is the one to go.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    # Permitted, effective and inheritable ones, two words each: none.
    libc.capset((ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)())
    for which, most in (
        (resource.RLIMIT_NOFILE, DESCRIPTORS),
        (resource.RLIMIT_DATA, MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(which)
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(which, (least, least))


def has_capabilities() -> bool:
    """Tell whether this process has any; where that cannot be told, it has."""
    with suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("CapPrm:")[2].split()[0], 16) != 0
    return True


def main(arguments: list[str]) -> None:
    """Strip, and go on; the arguments are those of :func:`bringup.daemon.status.listening.main`."""
    strip()
    if AGAIN not in arguments and has_capabilities():
        # Our unit refuses capset(2).  A program that is begun without ambient ones has none, unless root begins it.
        os.execv(sys.executable, [*sys.orig_argv, AGAIN])  # noqa: S606 - it is this one
    with suppress(OSError):
        os.nice(NICER)
    # Outside of a service manager a session has a share of its own, within which alone the line above counts.
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(NICER), encoding="ascii")
    confine()
    from bringup.daemon.status.listening import main as listen

    listen(arguments[:2])


if __name__ == "__main__":
    main(sys.argv[1:])
