"""Waits between attempts at Placement and Keystone.

The formula for Placement is that of every retry in bringup, tenacity's ``wait_random_exponential``: a random wait
between a minimum and a ceiling that doubles with each attempt up to a maximum.  All of it is jittered, the maximum and
``Retry-After`` too: after a power cut a thousand hosts send requests at once, and must not come back at once.

A wait for Keystone is anything up to a ceiling, from nothing on: where thousands wait for the same Keystone, the whole
width keeps them apart.  While Keystone does not respond, the ceiling doubles with each attempt, up to a bound that
follows from how long a refusal takes: one that comes at once costs nobody anything, and a proxy that thousands keep
busy is left more time.  Once Keystone responds and is busy, nobody knows how many wait, but each host knows how long
the queue is, and how long it has been there: the ceiling grows with the one, or is a share of the other.  So hosts
probe often where the queue is a short one, seldom where it is long, and the last ones are late by a share of what all
take.
"""

import random
from typing import Final

from tenacity import AsyncRetrying, RetryCallState, wait_random_exponential

from bringup.placement.errors import KeystoneWait, Unreachable
from bringup.placement.retry_after import jittered

PLACEMENT_WAIT: Final = wait_random_exponential(multiplier=0.25, min=0.1, max=5)
LEAST_CEILING_AWAY_S: Final = 3.0
LARGEST_CEILING_AWAY_S: Final = 10.0
PER_REFUSAL: Final = 60.0
"""Ceiling over what a refusal took."""
LEAST_CEILING_S: Final = 0.5
LARGEST_CEILING_S: Final = 20.0
SHARE: Final = 0.2
"""Of the time since Keystone was first busy."""
PER_SQUARE: Final = 10.0
"""Ceiling, in seconds, over the square of the length of a short queue."""
PER_QUEUE: Final = 4.0
"""Ceiling over the length of a queue that is not short."""
RETRY_AFTER_MAX_S: Final = 120.0
"""The longest wait that an answer can demand; more would be a proxy deciding how long a host stays down."""


def wait_s(state: RetryCallState) -> float:
    """Return the seconds to wait after a failed attempt, whether at Placement or at Keystone."""
    error = None if state.outcome is None else state.outcome.exception()
    if not isinstance(error, Unreachable):
        return PLACEMENT_WAIT(state)
    backoff_s = PLACEMENT_WAIT(state) if error.of_keystone is None else keystone_wait_s(error.of_keystone)
    return max(backoff_s, jittered(error.retry_after_s, at_most_s=RETRY_AFTER_MAX_S))


def keystone_wait_s(waited: KeystoneWait) -> float:
    """Return the seconds to wait before the next probe of Keystone."""
    if waited.queued_s is None:
        doublings = min(max(waited.failures - 1, 0), 30)
        bound_s = min(LARGEST_CEILING_AWAY_S, max(LEAST_CEILING_AWAY_S, PER_REFUSAL * waited.took_s))
        ceiling_s = min(bound_s, LEAST_CEILING_AWAY_S * 2**doublings)
    else:
        behind_queue_s = min(PER_SQUARE * waited.took_s**2, PER_QUEUE * waited.took_s)
        ceiling_s = min(LARGEST_CEILING_S, max(LEAST_CEILING_S, SHARE * waited.queued_s, behind_queue_s))
    # The jitter of a wait is no secret.
    return random.uniform(0, ceiling_s)  # noqa: S311


RETRYING: Final = AsyncRetrying(wait=wait_s, reraise=True)
"""The policy of all requests to Placement; the caller adds which errors are transient, and bounds the time."""
