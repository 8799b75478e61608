"""A blocking call in a thread that nobody has to wait for.

Not anyio's worker threads: on asyncio the process waits for them when it ends, and a call to a hypervisor may never
return.
"""

import queue
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
from bringup.drivers.libvirt.room import Room

T = TypeVar("T")


class _Worker(threading.Thread):
    """Does one call after the other; a daemon, so that one that hangs does not keep the process."""

    def __init__(self) -> None:
        super().__init__(name="libvirt-call", daemon=True)
        self.inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.start()

    def run(self) -> None:
        while True:
            self.inbox.get()()


# As many as there were calls at once.
_idle: list[_Worker] = []


@dataclass(slots=True)
class Abandoned:
    """Whether anybody still waits for a call; read by the thread between two steps."""

    yes: bool = False


@dataclass(slots=True)
class _Ended(Generic[T]):
    result: T | None = None
    error: BaseException | None = None


async def in_thread(work: Callable[[Abandoned], T], *, at_end: Callable[[], None] | None = None) -> T:
    """Do ``work`` in a thread; a caller that is cancelled leaves it alone, and it is told so.

    ``at_end`` is called in the event loop when the thread has ended, waited for or not.
    """
    ended: _Ended[T] = _Ended()
    done = anyio.Event()
    abandoned = Abandoned()
    token = anyio.lowlevel.current_token()

    def tell() -> None:
        if at_end is not None:
            at_end()
        done.set()

    def run() -> None:
        try:
            ended.result = work(abandoned)
        except BaseException as error:  # noqa: BLE001 - it is raised where the work was asked for
            ended.error = error
        with suppress(RuntimeError):  # the event loop has ended: nobody is left to be told
            anyio.from_thread.run_sync(tell, token=token)
        # Not before: telling may take long, or for ever.
        _idle.append(worker)

    try:
        worker = _idle.pop() if _idle else _Worker()
    except RuntimeError:  # the kernel gives no more threads
        if at_end is not None:
            at_end()
        raise
    worker.inbox.put(run)
    try:
        await done.wait()
    finally:
        abandoned.yes = True
    if ended.error is not None:
        raise ended.error
    return ended.result  # type: ignore[return-value]  # without an error it is what the work gave


async def on_disk(what: str, work: Callable[[], T], *, room: Room, deadline_s: float) -> T:
    """Do something with files in a thread, when there is ``room``; waiting for it is not counted.

    :raises DriverError: it could not be done, or not in time; then it may still be done.
    :raises NotSent: there was no room; it is not done.
    """
    place = await room.enter(what, patience_s=deadline_s)
    with anyio.move_on_after(deadline_s):
        try:
            return await in_thread(lambda _: work(), at_end=lambda: room.leave(place))
        except OSError as error:
            raise DriverError(f"cannot {what}") from error
    raise CallTimedOut(f"cannot {what}: storage has not answered in {deadline_s:g} s")
