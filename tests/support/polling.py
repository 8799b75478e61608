"""Waiting for a state of another process that nobody announces: asked for again and again, with a pause between.

Without the pause the asking takes the processor that the other process needs.
"""

import threading
import time
from collections.abc import Awaitable, Callable

import anyio

PATIENCE_S = 60.0
PAUSE_S = 0.02


def until(reached: Callable[[], object], what: str, *, patience_s: float = PATIENCE_S) -> None:
    """Wait until ``reached`` gives something true; fail when that does not come, and say ``what`` it is."""
    deadline = time.monotonic() + patience_s
    while not reached():
        assert time.monotonic() < deadline, f"{what} did not come in {patience_s:g} s"
        threading.Event().wait(PAUSE_S)


async def reached(is_so: Callable[[], Awaitable[object]], what: str, *, patience_s: float = PATIENCE_S) -> None:
    """Wait in a task until ``is_so`` gives something true; fail when that does not come."""
    deadline = time.monotonic() + patience_s
    while not await is_so():
        assert time.monotonic() < deadline, f"{what} did not come in {patience_s:g} s"
        await anyio.sleep(PAUSE_S)
