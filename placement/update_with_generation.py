"""Read, decide, write; repeated where another writer was faster.

Placement refuses a write that was decided on an older generation (409, ``placement.concurrent_update``).  Then the
decision is made again on the current state.  A request whose response was lost is repeated: each write contains the
whole desired state and the generation.
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
"""Conflicts after which it is given up."""
CONCURRENT: Final = "placement.concurrent_update"


async def update_with_generation(
    what: str, once: Callable[[], Awaitable[T]], *, wait_s: float, policy: AsyncRetrying = RETRYING
) -> T:
    """Call ``once`` until no conflict and no transient error is left, for ``wait_s`` seconds at most.

    :raises Conflict: other writers were faster each time, or reading again does not resolve the conflict.
    :raises GateClosed: a transient error lasted longer than ``wait_s``.
    :raises PlacementError: an operator must correct something.
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
        log.info("placement.retry", what=what, attempt=attempts, wait_s=round(state.upcoming_sleep, 3))

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
