"""Read, decide, write: again where somebody else was faster.

Placement refuses a write that was decided on an older generation (409, ``placement.concurrent_update``).  Then the
decision is made anew on what is there now.  A request whose answer was lost is repeated, for each write here says the
whole of what shall be there, and on which generation.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from bringup.placement.backoff import RETRYING
from bringup.placement.errors import Conflict, GateClosed, Unreachable

log = structlog.get_logger()

T = TypeVar("T")

ATTEMPTS: Final = 8
"""So often somebody else may be faster."""
CONCURRENT: Final = "placement.concurrent_update"


async def revise(what: str, once: Callable[[], Awaitable[T]], *, wait_s: float, policy: AsyncRetrying = RETRYING) -> T:
    """Do ``once`` until neither another writer nor the network is in its way, for ``wait_s`` seconds at most.

    :raises Conflict: others were faster each time, or it is a conflict that reading again does not mend.
    :raises GateClosed: what may pass did not pass in time.
    :raises PlacementError: an operator has to mend something.
    """
    last: Unreachable | None = None
    conflicts = attempts = 0

    def is_transient(error: BaseException) -> bool:
        nonlocal last, conflicts
        if isinstance(error, Conflict):
            conflicts += 1
            return error.code in (None, CONCURRENT) and conflicts < ATTEMPTS
        if isinstance(error, Unreachable):
            last = error
            return wait_s > 0
        return False

    def note(state: RetryCallState) -> None:
        log.info("placement.again", what=what, attempt=attempts, wait_s=round(state.upcoming_sleep, 3))

    async def attempt() -> T:
        nonlocal attempts
        attempts += 1
        return await once()

    with anyio.move_on_after(wait_s or None):
        try:
            return await policy.copy(retry=retry_if_exception(is_transient), before_sleep=note).wraps(attempt)()
        except Unreachable as error:
            last = error
    why = "no answer yet" if last is None else last.why
    raise GateClosed(what, f"it was not done in {wait_s:g} s ({attempts} attempts, last: {why})") from last
