"""A blocking call in a thread of its own, which nobody has to wait for.

Not anyio's worker threads: on asyncio the process waits for them when it ends, and a call to a hypervisor may never
return.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel

from bringup.drivers.base import DriverError
from bringup.drivers.libvirt.errors import CallTimedOut
from bringup.drivers.libvirt.slots import Slots

T = TypeVar("T")


@dataclass(slots=True)
class Abandoned:
    """Flag that is set once nobody waits for a call any more; the thread reads it between two steps."""

    yes: bool = False


@dataclass(slots=True)
class _Ended(Generic[T]):
    result: T | None = None
    error: BaseException | None = None


async def in_thread(work: Callable[[Abandoned], T], *, at_end: Callable[[], None] | None = None) -> T:
    """Run ``work`` in a thread and return its result.

    A caller that is cancelled does not wait for the thread, and sets the flag that ``work`` is given.  ``at_end`` is
    called in the event loop when the thread has ended, waited for or not.
    """
    ended: _Ended[T] = _Ended()
    done = anyio.Event()
    abandoned = Abandoned()
    token = anyio.lowlevel.current_token()

    def notify() -> None:
        if at_end is not None:
            at_end()
        done.set()

    def run() -> None:
        try:
            ended.result = work(abandoned)
        except BaseException as error:  # noqa: BLE001 - it is raised where the work was requested
            ended.error = error
        with suppress(RuntimeError):  # the event loop has ended: nobody waits any more
            anyio.from_thread.run_sync(notify, token=token)

    try:
        # A daemon thread: one that hangs does not keep the process.
        threading.Thread(target=run, name="libvirt-call", daemon=True).start()
    except RuntimeError:  # the kernel grants no more threads
        if at_end is not None:
            at_end()
        raise
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
