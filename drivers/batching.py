"""Batches: what many tasks submit while a round of work is under way shares the next round.

This is what makes one commit, and its ``fsync``, serve many saves, and one ``nft`` or ``ovs-vsctl`` many guests.  There
is no task in the background: one of the tasks that wait leads a round and then names the next leader, so nothing
outlives the tasks that wait, and nobody leads for long.

Cancellation: whoever is cancelled before the round began takes the item back; whoever is cancelled while it is under
way waits for its end.  So work whose answer nobody received is still whole: done, or not done.  Work that may be
repeated (``repeatable``) need not be waited for: whoever is cancelled leaves, and if it was the leader the round is
held again for the others.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

ROUND: Final = 500
"""Most items in a round of a database: databases bound the parameters of a statement."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")

Work = Callable[[Sequence[Item]], Awaitable[Sequence[Answer | Exception]]]
"""One round: an answer for each item, in order; an exception is the failure of its item alone."""


def in_thread(
    work: Callable[[Sequence[Item]], Sequence[Answer | Exception]], limiter: anyio.CapacityLimiter
) -> Work[Item, Answer]:
    """Convert a function that blocks to work."""

    async def run(items: Sequence[Item]) -> Sequence[Answer | Exception]:
        return await anyio.to_thread.run_sync(work, items, limiter=limiter)

    return run


@dataclass(slots=True, eq=False)
class _Ticket(Generic[Item, Answer]):
    item: Item
    answer: Answer | Exception | None = None
    leads: bool = False
    taken: bool = False
    """It is in the round that is under way, or was in one that is over."""
    abandoned: bool = False
    """Its task is gone."""
    woken: anyio.Event = field(default_factory=anyio.Event)
    """Set when it is to lead, and when it is answered."""


class Gathering(Generic[Item, Answer]):
    """Answers the items of many tasks, a round of them at a time."""

    def __init__(
        self,
        work: Work[Item, Answer],
        *,
        failure: type[Exception],
        repeatable: bool = False,
        most: int | None = None,
        pause_s: float = 0.0,
    ) -> None:
        """Build one with the work of a round, of ``most`` items at most.

        ``failure``, raised by the work, is the failure of every item of its round.  After a round the next begins
        ``pause_s`` later at the earliest: items that come meanwhile share it.
        """
        self._work = work
        self._failure = failure
        self._repeatable = repeatable
        self._most = most
        self._pause_s = pause_s
        self._next_at = 0.0
        """When the next round may begin, in the time of the event loop."""
        self._waiting: deque[_Ticket[Item, Answer]] = deque()
        self._busy = False
        self._closed = False
        self._idle = anyio.Event()

    async def submit(self, item: Item) -> Answer:
        """Return the answer of the round that the item was in.

        :raises Exception: what the work returned for this item, or raised for its whole round, of class ``failure``;
            or the gathering is closed.
        """
        (answer,) = await self.submit_all([item])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def submit_all(self, items: Sequence[Item]) -> list[Answer | Exception]:
        """Return the answers of several items, in order; they share a round where it takes them all.

        :raises Exception: the gathering is closed; of class ``failure``.
        """
        await anyio.lowlevel.checkpoint_if_cancelled()
        if self._closed:
            raise self._failure("cannot use it any more: it is closed")
        tickets = [_Ticket[Item, Answer](item) for item in items]
        self._waiting.extend(tickets)
        try:
            for ticket in tickets:
                await self._answered(ticket)
        except BaseException:
            self._take_back(tickets)
            raise
        return [ticket.answer for ticket in tickets]  # type: ignore[misc]  # None only where Answer is

    async def close(self) -> None:
        """Refuse further items, and wait until those that were submitted are answered."""
        self._closed = True
        if self._busy:
            await self._idle.wait()

    async def _answered(self, ticket: _Ticket[Item, Answer]) -> None:
        if not self._busy and not ticket.taken:
            self._busy = ticket.leads = True
        elif not ticket.woken.is_set():
            await self._wait(ticket)
        if ticket.leads and not ticket.taken:
            await self._lead()

    async def _wait(self, ticket: _Ticket[Item, Answer]) -> None:
        try:
            await ticket.woken.wait()
        except anyio.get_cancelled_exc_class():
            if ticket.taken:
                with anyio.CancelScope(shield=not self._repeatable):
                    await ticket.woken.wait()
            raise

    def _take_back(self, tickets: Sequence[_Ticket[Item, Answer]]) -> None:
        for ticket in tickets:
            ticket.abandoned = True
        own = [ticket for ticket in tickets if ticket in self._waiting]
        for ticket in own:
            self._waiting.remove(ticket)
        if any(ticket.leads for ticket in own):
            self._name_leader()

    async def _lead(self) -> None:
        # Bounded by the work, which its database or command bounds by its own timeout.
        with anyio.CancelScope(shield=not self._repeatable):
            # Whoever is ready to submit in this turn of the event loop shares the round.
            await anyio.sleep_until(self._next_at)
            count = len(self._waiting) if self._most is None else min(self._most, len(self._waiting))
            await self._hold_round([self._waiting.popleft() for _ in range(count)])

    async def _hold_round(self, tickets: list[_Ticket[Item, Answer]]) -> None:
        for ticket in tickets:
            ticket.taken = True
            ticket.answer = self._failure("its outcome is unknown: the work was interrupted")
        try:
            answers = await self._work([ticket.item for ticket in tickets])
            for ticket, answer in zip(tickets, answers, strict=True):
                ticket.answer = answer
        except self._failure as error:
            for ticket in tickets:
                ticket.answer = _copy(error)
        except BaseException:
            if self._repeatable:
                # The leader leaves, and is the first of them; the others' items are submitted again.
                others = [ticket for ticket in tickets[1:] if not ticket.abandoned]
                for ticket in others:
                    ticket.taken = False
                self._waiting.extendleft(reversed(others))
                del tickets[1:]
            raise
        finally:
            self._next_at = anyio.current_time() + self._pause_s
            for ticket in tickets:
                ticket.woken.set()
            self._name_leader()

    def _name_leader(self) -> None:
        if self._waiting:
            leader = self._waiting[0]
            leader.leads = True
            leader.woken.set()
            return
        self._busy = False
        if self._closed:
            self._idle.set()


def _copy(error: Exception) -> Exception:
    """Copy an error, to be raised in each task: a traceback is written on the error that is raised."""
    # Not by its constructor, which may take other arguments than it keeps.
    copy = type(error).__new__(type(error), *error.args)
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error.__cause__
    return copy


async def in_halves(
    items: Sequence[Item], transact: Callable[[Sequence[Item]], Awaitable[object]], *, refused: type[Exception]
) -> list[Exception | None]:
    """Do all items in one transaction; if it is ``refused``, each half by itself, down to the item at fault.

    So a wrong item never keeps another from being done.  Any other error ends it: it is raised.
    """
    if not items:
        return []
    try:
        await transact(items)
    except refused as error:
        if len(items) == 1:
            return [error]
        middle = len(items) // 2
        halves = (items[:middle], items[middle:])
        return [answer for half in halves for answer in await in_halves(half, transact, refused=refused)]
    return [None] * len(items)
