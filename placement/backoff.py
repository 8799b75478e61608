"""How long to wait before the next attempt.  Pure.

All of it is jittered: after a power cut a thousand hosts ask at once, and those that a proxy sent away with the same
``Retry-After`` would come back at once.  (stamina's own backoff has no jitter left once it has reached its maximum.)
"""

from typing import Final

from bringup.placement.errors import Unreachable
from bringup.placement.knocking import pause_s

INITIAL_S: Final = 0.25
MAX_S: Final = 5.0
RETRY_AFTER_MAX_S: Final = 120.0
"""What an answer can ask for; more would be a proxy deciding how long a host stays down."""
DOUBLINGS: Final = 10


def backoff_s(attempt: int, *, retry_after_s: float | None, draw: float) -> float:
    """Give the seconds to wait after the failed ``attempt`` (from 1); ``draw`` is random, from 0 to 1.

    From half of an exponentially growing ceiling up to the ceiling, or from ``retry_after_s`` up to a quarter more,
    whichever is later.
    """
    ceiling_s = min(MAX_S, INITIAL_S * 2.0 ** min(attempt - 1, DOUBLINGS))
    return at_least_s(ceiling_s * (1 + draw) / 2, retry_after_s=retry_after_s, draw=draw)


def at_least_s(wait_s: float, *, retry_after_s: float | None, draw: float) -> float:
    """Give a wait that is as long as an answer asks for, within bounds and not the same for every host."""
    if retry_after_s is None:
        return wait_s
    return max(wait_s, min(retry_after_s, RETRY_AFTER_MAX_S) * (1 + draw / 4))


def wait_after_s(error: Unreachable, attempt: int, *, draw: float) -> float:
    """Give the seconds to wait after the ``attempt`` that ended in this error, whoever was asked."""
    if error.of_keystone:
        return at_least_s(pause_s(attempt, draw=draw), retry_after_s=error.retry_after_s, draw=draw)
    return backoff_s(attempt, retry_after_s=error.retry_after_s, draw=draw)
