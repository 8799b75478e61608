"""Deadlines that stand still while a piece of work waits for its turn.

Code that bounds a piece of work (an instance, a command) registers its scope with :func:`pausable_deadline`; code that
makes the work wait for a scarce resource of ours (a connection to the hypervisor, a place at the disk) waits inside
:func:`pause_deadlines`.  Other work causes that wait, and it has a bound of its own.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import anyio


@dataclass(slots=True)
class _Deadline:
    scope: anyio.CancelScope
    waits: int = 0
    left_s: float = math.inf

    def pause(self) -> None:
        if not self.waits:
            self.left_s = self.scope.deadline - anyio.current_time()
            self.scope.deadline = math.inf
        self.waits += 1

    def resume(self) -> None:
        self.waits -= 1
        if not self.waits:
            self.scope.deadline = anyio.current_time() + self.left_s


_running: ContextVar[tuple[_Deadline, ...]] = ContextVar("running_deadlines", default=())


@contextmanager
def pausable_deadline(scope: anyio.CancelScope) -> Iterator[None]:
    """Register the deadline of a scope: it stands still during :func:`pause_deadlines` inside the block."""
    token = _running.set((*_running.get(), _Deadline(scope)))
    try:
        yield
    finally:
        _running.reset(token)


@contextmanager
def pause_deadlines() -> Iterator[None]:
    """Pause all registered deadlines for as long as the block lasts: it waits for its turn."""
    deadlines = _running.get()
    for deadline in deadlines:
        deadline.pause()
    try:
        yield
    finally:
        for deadline in deadlines:
            deadline.resume()
