"""Deadlines that do not run while their holder only waits for its turn.

Whoever bounds a piece of work (an instance, a command) makes its scope known with :func:`counted`; whoever has that
work wait for something scarce of ours (a connection to the hypervisor, a place at the disk) does so inside of
:func:`not_counted`.  The wait is somebody else's doing, and has a bound of its own.
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

    def go_on(self) -> None:
        self.waits -= 1
        if not self.waits:
            self.scope.deadline = anyio.current_time() + self.left_s


_running: ContextVar[tuple[_Deadline, ...]] = ContextVar("running_deadlines", default=())


@contextmanager
def counted(scope: anyio.CancelScope) -> Iterator[None]:
    """Have the deadline of a scope stand still during waits of what is done in the block."""
    token = _running.set((*_running.get(), _Deadline(scope)))
    try:
        yield
    finally:
        _running.reset(token)


@contextmanager
def not_counted() -> Iterator[None]:
    """Have no deadline run for as long as the block lasts: it waits for its turn."""
    deadlines = _running.get()
    for deadline in deadlines:
        deadline.pause()
    try:
        yield
    finally:
        for deadline in deadlines:
            deadline.go_on()
