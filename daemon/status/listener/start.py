"""Entry point of the process that answers: it drops its privileges before it imports anything.

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

from bringup.daemon.quick_imports import quick_imports
from bringup.daemon.status.listener.confinement import applied, checked, confine

PR_SET_PDEATHSIG: Final = 1
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
CAPABILITY_VERSION_3: Final = 0x20080522
"""linux/prctl.h, linux/capability.h."""
DESCRIPTORS: Final = 384
"""The connections of a listener, what Python has open, and some more."""
MEMORY: Final = 192 << 20
"""Several times what it needs with 10 000 instances; two of them and the daemon are below the limits of the units."""
LIMITS: Final[Mapping[int, int]] = {
    resource.RLIMIT_NOFILE: DESCRIPTORS,
    resource.RLIMIT_DATA: MEMORY,
    resource.RLIMIT_FSIZE: 0,
    resource.RLIMIT_CORE: 0,
}
NICER: Final = 5
"""A third of the weight of a process without it (sched(7)), so a quarter of a processor that the daemon needs as well.

It is as much as :mod:`bringup.daemon.status.listener.process` allows on an idle host.  With a tenth of that, probes
were not answered within a minute on a host whose processors were all busy, as they are after a boot.
"""


AGAIN: Final = "again"
TELL: Final = "tell"


def strip() -> dict[str, str]:
    """Drop all privileges but priority and capabilities; return what could not be dropped, and why."""
    libc = ctypes.CDLL(None, use_errno=True)
    # Signals of a terminal or a service manager to all processes are for the daemon, which ends this one.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # If that is refused, it ends with its pipe.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return applied(
        {
            "no_new_privs": lambda: checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)),
            "first_to_go": _go_first,
            "limits": _limit,
        }
    )


def _go_first() -> None:
    # If the memory of the unit, or of the host, runs out, this one is killed.
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _limit() -> None:
    for which, most in LIMITS.items():
        _, hard = resource.getrlimit(which)
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(which, (least, least))
        except ValueError as error:  # Python's error for a refusal
            raise OSError(errno.EPERM, os.strerror(errno.EPERM)) from error


def drop_capabilities() -> None:
    """Drop all capabilities, unless the kernel gives them to this user."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    # Permitted, effective and inheritable ones, two words each: none.
    libc.capset((ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)())


def has_capabilities() -> bool:
    """Check whether this process has any; if that is not known, it has."""
    with suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("CapPrm:")[2].split()[0], 16) != 0
    return True


def give_away(arguments: list[str]) -> dict[str, str]:
    """Drop all privileges and confine; return what could not be applied, and why."""
    kept = strip()
    drop_capabilities()
    if has_capabilities():
        if AGAIN not in arguments:
            # Our unit refuses capset(2).  A program without ambient ones has none, unless root starts it.
            os.execv(sys.executable, [*sys.orig_argv, AGAIN])  # noqa: S606 - it is this one
        kept["capabilities"] = os.strerror(errno.EPERM)
    with suppress(OSError):
        os.nice(NICER)
    # Outside of a service manager a session has a share of its own, and the line above counts only within that.
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(NICER), encoding="ascii")
    return kept | confine()


def main(arguments: list[str]) -> None:
    """Drop privileges, then answer; the arguments are those of :func:`bringup.daemon.status.listener.process.main`.

    With ``tell`` in their place it writes what could not be applied, and exits.
    """
    lacks = give_away(arguments)
    if TELL in arguments:
        import json

        sys.stdout.write(json.dumps(lacks))
        return
    with quick_imports():
        from bringup.daemon.status.listener.process import main as listen

    listen(arguments[:2], lacks)


if __name__ == "__main__":
    main(sys.argv[1:])
