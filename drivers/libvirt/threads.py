"""A blocking call in a thread of its own, which nobody has to wait for.

Not anyio's worker threads: on asyncio the process waits for them when it ends, and a call to a hypervisor may never
return.  A thread whose call has ended is kept a while for the next one: to start one costs more than all else of a
call.
"""

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel
from anyio.lowlevel import RunVar

from bringup.drivers.base import DriverError
from bringup.drivers.libvirt.errors import CallTimedOut
from bringup.drivers.libvirt.slots import Slots

T = TypeVar("T")

IDLE_S: Final = 10.0
"""For how long a thread is kept for the next call."""


@dataclass(slots=True)
class Abandoned:
    """Flag that is set once nobody waits for a call any more; the thread reads it between two steps."""

    yes: bool = False


@dataclass(slots=True)
class _Ended(Generic[T]):
    result: T | None = None
    error: BaseException | None = None


class CallThread:
    """A thread that runs a call, and another one whenever it is idle."""

    def __init__(self, idle: "list[CallThread]", *, idle_s: float = IDLE_S) -> None:
        """Start it; who has seen the end of its call puts it among the ``idle`` ones, where it stays for ``idle_s``."""
        self._idle = idle
        self._idle_s = idle_s
        self._calls: queue.SimpleQueue[Callable[[], bool]] = queue.SimpleQueue()
        # A daemon thread: one that hangs does not keep the process.
        threading.Thread(target=self._run, name="libvirt-call", daemon=True).start()

    def submit(self, call: Callable[[], bool]) -> None:
        """Run a call; it returns whether there may be another."""
        self._calls.put(call)

    def _run(self) -> None:
        while True:
            try:
                call = self._calls.get(timeout=self._idle_s)
            except queue.Empty:
                with suppress(ValueError):  # it was taken at this moment: its call is on the way
                    self._idle.remove(self)
                    return
                continue
            if not call():
                return


_idle_threads: RunVar[list[CallThread]] = RunVar("idle threads")


def _idle() -> list[CallThread]:
    """Return the idle threads of this event loop: those of another one may be in other namespaces."""
    try:
        return _idle_threads.get()
    except LookupError:
        _idle_threads.set([])
        return _idle_threads.get()


async def in_thread(work: Callable[[Abandoned], T], *, at_end: Callable[[], None] | None = None) -> T:
    """Run ``work`` in a thread and return its result.

    A caller that is cancelled does not wait for the thread, and sets the flag that ``work`` is given.  ``at_end`` is
    called in the event loop when the thread has ended, waited for or not.
    """
    ended: _Ended[T] = _Ended()
    done = anyio.Event()
    abandoned = Abandoned()
    token = anyio.lowlevel.current_token()
    idle = _idle()

    def notify() -> None:
        idle.append(thread)
        if at_end is not None:
            at_end()
        done.set()

    def run() -> bool:
        try:
            ended.result = work(abandoned)
        except BaseException as error:  # noqa: BLE001 - it is raised where the work was requested
            ended.error = error
        try:
            anyio.from_thread.run_sync(notify, token=token)
        except RuntimeError:  # the event loop has ended: nobody waits any more
            return False
        return True

    try:
        thread = idle.pop() if idle else CallThread(idle)
    except RuntimeError:  # the kernel grants no more threads
        if at_end is not None:
            at_end()
        raise
    thread.submit(run)
    try:
        await done.wait()
    finally:
        abandoned.yes = True
    if ended.error is not None:
        raise ended.error
    return ended.result  # type: ignore[return-value]  # without an error it is the result


async def on_disk(what: str, work: Callable[[], T], *, slots: Slots, deadline_s: float) -> T:
    """Run ``work`` on files in a thread once one of the ``slots`` is free; that wait is not part of the deadline.

    :raises DriverError: it failed.
    :raises CallTimedOut: it has not ended in ``deadline_s``; it may still take effect.
    :raises NotSent: no slot became free; it was not started.
    """
    slot = await slots.acquire(what, patience_s=deadline_s)
    with anyio.move_on_after(deadline_s):
        try:
            return await in_thread(lambda _: work(), at_end=lambda: slots.release(slot))
        except OSError as error:
            raise DriverError(f"cannot {what}") from error
    raise CallTimedOut(f"cannot {what}: storage has not answered in {deadline_s:g} s")
