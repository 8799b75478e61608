"""File descriptors of this process: as many as it may have, within reason.

systemd gives a soft limit of 1024 for programs that use select(2), and a hard one for those that do not and say so:
https://0pointer.net/blog/file-descriptor-limits.html.  anyio, libvirt and SQLite do not.
"""

import resource
from contextlib import suppress
from typing import Final

MOST: Final = 8192
"""More than the work takes with every slot busy."""


def raise_limit(most: int = MOST) -> int:
    """Raise the soft limit to the hard one, to ``most`` at most; never lower it; give what it is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
