"""Tasks that run beside a block and end with it.

What the block raises comes out as it is: a bare task group would wrap it in an ``ExceptionGroup``, and the exit code
that a ``BringupError`` carries would be lost.
"""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup, TaskStatus


@asynccontextmanager
async def background() -> AsyncIterator[TaskGroup]:
    """Run tasks beside the block, and cancel them when it exits."""
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        try:
            yield group
        except Exception as error:  # noqa: BLE001 - raised below
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def first_of(*waits: Callable[[], Awaitable[object]]) -> None:
    """Return when the first of these is over; the others are cancelled."""
    async with anyio.create_task_group() as group:

        async def wait(each: Callable[[], Awaitable[object]]) -> None:
            await each()
            group.cancel_scope.cancel()

        for each in waits:
            group.start_soon(wait, each)


def _wanted() -> list[signal.Signals]:
    # nohup ignores SIGHUP on purpose, and its child must keep running.
    hung_up = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGTERM, signal.SIGINT, *hung_up]


@asynccontextmanager
async def ended_by_signal(
    took: Callable[[signal.Signals], None], *, on_hangup: Callable[[], None] | None = None
) -> AsyncIterator[None]:
    """Cancel the block on SIGTERM, SIGINT or SIGHUP, from its first line on; call ``took`` with the signal first.

    More of them change nothing: one during the shutdown report would otherwise kill the process.
    With ``on_hangup`` SIGHUP calls it and cancels nothing: there is no terminal to lose.
    """

    async def wait(scope: anyio.CancelScope, *, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(*_wanted()) as signals:
            task_status.started()
            async for number in signals:
                if number == signal.SIGHUP and on_hangup is not None:
                    on_hangup()
                    continue
                took(signal.Signals(number))
                scope.cancel()

    async with background() as group:
        with anyio.CancelScope() as scope:
            await group.start(wait, scope, name="signals")
            yield
