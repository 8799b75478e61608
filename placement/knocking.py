"""Whether to log in now, by how long Keystone took for a question that costs it nothing.  Pure.

A login costs Keystone a fifth of a second of CPU time, for passwords are hashed slowly on purpose, and it works on each
one that was sent, also when nobody waits for it any more.  A region that powers on has more hosts than that bears: so
each host asks for the version document first (``GET /v3``, less than a millisecond, no token), and how long that took
is how long the queue is.  The longer it took, the fewer log in now; the others wait and ask again.  No host needs to
know how many there are.
"""

from typing import Final

TOO_LONG_S: Final = 1.0
"""Nobody logs in behind a queue of so many seconds."""
AT_ONCE_S: Final = 0.05
"""An answer within so many seconds was not queued behind a login: a host that is alone never waits."""
STEEPNESS: Final = 4


def may_log_in(took_s: float, *, draw: float) -> bool:
    """Say whether to log in after a knock that took so long; ``draw`` is random, from 0 to 1 (excluded).

    The probability is (1 - took / 1 s) ** 4.
    """
    if took_s <= AT_ONCE_S:
        return True
    return took_s < TOO_LONG_S and draw < (1 - took_s / TOO_LONG_S) ** STEEPNESS
