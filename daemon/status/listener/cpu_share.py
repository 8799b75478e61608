"""Limit of the processor time of answers, whatever is requested: the process stands still for a while.

Clients wait a fraction of a second longer; the work of the host, which needs the same processors, does not.
"""

import time
from typing import Final

import anyio

from bringup.daemon.status.listener.connection_slots import Places

SHARE: Final = 0.25
"""Of one processor."""
EVERY_S: Final = 0.05
LONGEST_S: Final = 0.5
"""The longest pause; probes wait for some seconds."""


def pause_s(used_s: float, passed_s: float, share: float = SHARE) -> float:
    """Return how long to pause after so much CPU time was used within a time."""
    return min(LONGEST_S, max(0.0, used_s / share - passed_s))


async def pace(places: Places) -> None:
    """Keep to the share while there are connections, until cancelled."""
    while True:
        await places.taken()
        used_s, began_s = time.process_time(), time.monotonic()
        await anyio.sleep(EVERY_S)
        # Nothing else may run in this process either: that is the purpose.
        time.sleep(pause_s(time.process_time() - used_s, time.monotonic() - began_s))  # noqa: ASYNC251
