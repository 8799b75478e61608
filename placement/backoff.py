"""Waits between attempts at Placement and Keystone.

The formula is that of every retry in bringup, tenacity's ``wait_random_exponential``: a random wait between a minimum
and a ceiling that doubles with each attempt up to a maximum.  All of it is jittered, the maximum and ``Retry-After``
too: after a power cut a thousand hosts send requests at once, and must not come back at once.
"""

from typing import Final

from tenacity import AsyncRetrying, RetryCallState, wait_random_exponential

from bringup.placement.errors import Unreachable
from bringup.placement.retry_after import jittered

PLACEMENT_WAIT: Final = wait_random_exponential(multiplier=0.25, min=0.1, max=5)
KEYSTONE_WAIT: Final = wait_random_exponential(multiplier=2, max=20)
"""From nothing on: where thousands wait for the same Keystone, the whole width keeps them apart."""
RETRY_AFTER_MAX_S: Final = 120.0
"""The longest wait that an answer can demand; more would be a proxy deciding how long a host stays down."""


def wait_s(state: RetryCallState) -> float:
    """Return the seconds to wait after a failed attempt, whether at Placement or at Keystone."""
    error = None if state.outcome is None else state.outcome.exception()
    if not isinstance(error, Unreachable):
        return PLACEMENT_WAIT(state)
    backoff = KEYSTONE_WAIT if error.of_keystone else PLACEMENT_WAIT
    return max(backoff(state), jittered(error.retry_after_s, at_most_s=RETRY_AFTER_MAX_S))


RETRYING: Final = AsyncRetrying(wait=wait_s, reraise=True)
"""The policy of all requests to Placement; the caller adds which errors are transient, and bounds the time."""
