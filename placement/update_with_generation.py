"""Read, decide, write: again where somebody else was faster.

Placement refuses a write that was decided on an older generation (409, ``placement.concurrent_update``).  Then the
decision is made anew on what is there now.  A request whose answer was lost is repeated, for each write here says the
whole of what shall be there, and on which generation.
"""

import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio
import structlog

from bringup.placement.backoff import backoff_s, wait_after_s
from bringup.placement.errors import Conflict, GateClosed, Unreachable

log = structlog.get_logger()

T = TypeVar("T")

ATTEMPTS: Final = 8
"""So often somebody else may be faster."""
CONCURRENT: Final = "placement.concurrent_update"


async def revise(what: str, once: Callable[[], Awaitable[T]], *, wait_s: float) -> T:
    """Do ``once`` until neither another writer nor the network is in its way, for ``wait_s`` seconds at most.

    :raises Conflict: others were faster each time, or it is a conflict that reading again does not mend.
    :raises GateClosed: what may pass did not pass in time.
    :raises PlacementError: an operator has to mend something.
    """
    last: Unreachable | None = None
    conflicts, attempts = 0, 0
    with anyio.move_on_after(wait_s or None):
        while True:
            attempts += 1
            away: Unreachable | None = None
            try:
                return await once()
            except Conflict as error:
                conflicts += 1
                if error.code not in (None, CONCURRENT) or conflicts >= ATTEMPTS:
                    raise
            except Unreachable as error:
                last = away = error
                if not wait_s:
                    break
            draw = random.random()  # noqa: S311 - the jitter of a wait is no secret
            if away is None:
                pause_s = backoff_s(attempts, retry_after_s=None, draw=draw)
            else:
                pause_s = wait_after_s(away, attempts, draw=draw)
            log.info("placement.again", what=what, attempt=attempts, wait_s=round(pause_s, 3))
            await anyio.sleep(pause_s)
    why = "no answer yet" if last is None else last.why
    raise GateClosed(what, f"it was not done in {wait_s:g} s ({attempts} attempts, last: {why})") from last
