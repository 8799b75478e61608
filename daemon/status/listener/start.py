"""The beginning of the process that answers: it gives away what it does not need, before it imports anything.

Capabilities, new privileges, files, memory, its turn.  ``python -m bringup.daemon.status.listener.start LISTENER PIPE``
is :mod:`bringup.daemon.status.listener.process` without them.  It has the daemon's user: docs/safety.md says what that
means.
"""

import ctypes
import errno
import os
import resource
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from bringup.daemon.status.listener.confinement import applied, checked, confine

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
LIMITS: Final[Mapping[int, int]] = {
    resource.RLIMIT_NOFILE: DESCRIPTORS,
    resource.RLIMIT_DATA: MEMORY,
    resource.RLIMIT_FSIZE: 0,
    resource.RLIMIT_CORE: 0,
}
NICER: Final = 5
"""A third of the weight of who has none (sched(7)), so a quarter of a processor that the daemon wants as well.

It is as much as :mod:`bringup.daemon.status.listener.cpu_share` lets it have on an idle host.  With a tenth of that,
probes were not answered within a minute on a host where everybody wanted the processors, as they do after a boot.
"""


AGAIN: Final = "again"
TELL: Final = "tell"


def strip() -> dict[str, str]:
    """Give all of it away but the turn and the capabilities; give what is still there, and why."""
    libc = ctypes.CDLL(None, use_errno=True)
    # What a terminal or a service manager sends to all processes is for the daemon, which ends this one.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # Where that is refused, it ends with its pipe.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return applied(
        {
            "no_new_privs": lambda: checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)),
            "first_to_go": _go_first,
            "limits": _limit,
        }
    )


def _go_first() -> None:
    # Where the memory of the unit, or of the host, is used up, this is the one to go.
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _limit() -> None:
    for which, most in LIMITS.items():
        _, hard = resource.getrlimit(which)
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(which, (least, least))
        except ValueError as error:  # which is how Python says that it is refused
            raise OSError(errno.EPERM, os.strerror(errno.EPERM)) from error


def drop_capabilities() -> None:
    """Have none, but as a user that the kernel gives them to."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    # Permitted, effective and inheritable ones, two words each: none.
    libc.capset((ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)())


def has_capabilities() -> bool:
    """Tell whether this process has any; where that cannot be told, it has."""
    with suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("CapPrm:")[2].split()[0], 16) != 0
    return True


def give_away(arguments: list[str]) -> dict[str, str]:
    """Strip, drop and confine; give what could not be applied, and why."""
    kept = strip()
    drop_capabilities()
    if has_capabilities():
        if AGAIN not in arguments:
            # Our unit refuses capset(2).  A program that is begun without ambient ones has none, unless root begins it.
            os.execv(sys.executable, [*sys.orig_argv, AGAIN])  # noqa: S606 - it is this one
        kept["capabilities"] = os.strerror(errno.EPERM)
    with suppress(OSError):
        os.nice(NICER)
    # Outside of a service manager a session has a share of its own, within which alone the line above counts.
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(NICER), encoding="ascii")
    return kept | confine()


def main(arguments: list[str]) -> None:
    """Strip, and go on; the arguments are those of :func:`bringup.daemon.status.listener.process.main`.

    With ``tell`` in their place it writes what could not be applied, and ends.
    """
    lacks = give_away(arguments)
    if TELL in arguments:
        import json

        sys.stdout.write(json.dumps(lacks))
        return
    from bringup.daemon.status.listener.process import main as listen

    listen(arguments[:2], lacks)


if __name__ == "__main__":
    main(sys.argv[1:])
