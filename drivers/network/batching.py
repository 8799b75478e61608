"""Many guests ask at once, one call answers: what is asked while a call is under way shares the next one.

There is no task in the background: whoever gets the lock takes all that waits.  One that is cancelled while it works
for others leaves their part to the next; so what is done must be safe to repeat.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import anyio

from bringup.drivers.base import DriverError
from bringup.drivers.needs import NeedNotMet
from bringup.drivers.network.commands import CommandRefused

Item = TypeVar("Item")


@dataclass(slots=True, eq=False)
class _Ticket(Generic[Item]):
    item: Item
    over: bool = False
    error: Exception | None = None


class Gathering(Generic[Item]):
    """Does what many tasks ask for, a round at a time."""

    def __init__(
        self, work: Callable[[Sequence[Item]], Awaitable[Sequence[Exception | None]]], *, most: int | None = None
    ) -> None:
        """Take the work of a round, and how many items it takes at most.

        The work says what went wrong with each item, in order.  A DriverError that it raises is that of all of them.
        """
        self._work = work
        self._most = most
        self._waiting: list[_Ticket[Item]] = []
        self._lock = anyio.Lock()

    async def do(self, item: Item) -> None:
        """Have an item done, and raise what went wrong with it."""
        (error,) = await self.do_all([item])
        if error is not None:
            raise error

    async def do_all(self, items: Sequence[Item]) -> list[Exception | None]:
        """Have items done, in one round where that takes them all; give what went wrong with each, in order."""
        tickets = [_Ticket(item) for item in items]
        self._waiting += tickets
        try:
            async with self._lock:
                while not all(ticket.over for ticket in tickets):
                    await self._round()
        finally:
            self._waiting = [ticket for ticket in self._waiting if ticket not in tickets]
        return [ticket.error for ticket in tickets]

    async def _round(self) -> None:
        tickets = self._waiting[: self._most]
        try:
            errors = await self._work([ticket.item for ticket in tickets])
        except DriverError as error:
            errors = [_copy(error) for _ in tickets]
        for ticket, one in zip(tickets, errors, strict=True):
            ticket.over, ticket.error = True, one
        self._waiting = [ticket for ticket in self._waiting if not ticket.over]


async def in_halves(
    items: Sequence[Item], transact: Callable[[Sequence[Item]], Awaitable[object]]
) -> list[Exception | None]:
    """Do all items in one transaction; where it is refused, each half by itself, down to the one that is to blame.

    So a wrong item never keeps another from being done.  That the command is unavailable ends it: it is raised.
    """
    if not items:
        return []
    try:
        await transact(items)
    except CommandRefused as error:
        if len(items) == 1:
            return [error]
        middle = len(items) // 2
        return [*await in_halves(items[:middle], transact), *await in_halves(items[middle:], transact)]
    return [None] * len(items)


def _copy(error: DriverError) -> DriverError:
    """Make one to raise in each task: a traceback is written on the error that is raised."""
    copy = type(error)(str(error), error.needs) if isinstance(error, NeedNotMet) else type(error)(*error.args)
    copy.__cause__ = error.__cause__
    return copy
