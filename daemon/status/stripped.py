"""Takes from the process that answers whatever it does not need: capabilities, new privileges, files, memory, a turn.

It has the daemon's user: what that user's files and sockets are, is said in docs/safety.md.
"""

import ctypes
import os
import resource
import signal
from contextlib import suppress
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
CAPABILITY_VERSION_3: Final = 0x20080522
"""linux/prctl.h, linux/capability.h."""
DESCRIPTORS: Final = 384
"""The places of a listener, what Python has open, and some more."""
MEMORY: Final = 512 << 20
NICER: Final = 15
"""The work goes first where both want the same processor."""


def strip() -> None:
    """Take all of it; what the kernel or the service manager does not allow to be given away stays."""
    libc = ctypes.CDLL(None, use_errno=True)
    # What a terminal or a service manager sends to all processes is for the daemon, which ends this one.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
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
    with suppress(OSError):
        os.nice(NICER)
