"""Bounds the share of a processor that answers take, whatever is asked: the process stands still for a while.

Those who ask wait so much longer, a fraction of a second; the work of the host, which wants the same processors, does
not.
"""

import time
from typing import Final

import anyio

from bringup.daemon.status.listener.connection_slots import Places

SHARE: Final = 0.25
"""Of one processor."""
EVERY_S: Final = 0.05
LONGEST_S: Final = 0.5
"""So long it stands still at most at a time; probes wait for some seconds."""


def pause_s(used_s: float, passed_s: float, share: float = SHARE) -> float:
    """Tell for how long to stand still after so much CPU time was used within a time."""
    return min(LONGEST_S, max(0.0, used_s / share - passed_s))


async def pace(places: Places) -> None:
    """Keep to the share while anybody is connected, until cancelled."""
    while True:
        await places.taken()
        used_s, began_s = time.process_time(), time.monotonic()
        await anyio.sleep(EVERY_S)
        # Nothing else is to run here either: that is what it is for.
        time.sleep(pause_s(time.process_time() - used_s, time.monotonic() - began_s))  # noqa: ASYNC251
