"""Policies of retries for tests: the waits are drawn as they are, and nobody sleeps."""

from collections.abc import MutableSequence

import anyio.lowlevel
from tenacity import AsyncRetrying, stop_after_attempt

from bringup.placement.backoff import wait_s


def without_waits(attempts: int) -> AsyncRetrying:
    """Return Placement's policy without its sleeps, and with so many attempts at most."""
    return recording([], attempts=attempts)


def recording(made: MutableSequence[float], *, attempts: int) -> AsyncRetrying:
    """Return Placement's policy, which notes each wait instead of making it."""

    async def note(seconds: float) -> None:
        made.append(seconds)
        await anyio.lowlevel.checkpoint()

    return AsyncRetrying(wait=wait_s, sleep=note, stop=stop_after_attempt(attempts), reraise=True)
