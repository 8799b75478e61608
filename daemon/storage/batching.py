"""Many tasks ask, one works: what is asked while the work is under way is gathered for the next round.

This is what makes a commit, and its ``fsync``, serve many saves.  There is no task in the background: one of those that
ask leads a round and then names the next leader, so nothing outlives the tasks that wait, and nobody leads for long.

Cancellation: who is cancelled before the round began takes the question back; who is cancelled while it is under way
waits for its end.  So an answer that nobody heard is still whole: done, or not done.  Work that only reads need not be
waited for (``only_reads``): who is cancelled goes, and where it was the leader the round is held again.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from bringup.daemon.errors import StoreError

Question = TypeVar("Question")
Answer = TypeVar("Answer")

ROUND = 500
"""Most questions in a round; databases bound the parameters of a statement."""


Work = Callable[[Sequence[Question]], Awaitable[Sequence[Answer | StoreError]]]
"""One round: an answer a question, in order; a StoreError fails its question alone."""


def in_thread(
    work: Callable[[Sequence[Question]], Sequence[Answer | StoreError]], limiter: anyio.CapacityLimiter
) -> Work[Question, Answer]:
    """Make work of a function that blocks."""

    async def run(questions: Sequence[Question]) -> Sequence[Answer | StoreError]:
        return await anyio.to_thread.run_sync(work, questions, limiter=limiter)

    return run


@dataclass(slots=True, eq=False)
class _Ticket(Generic[Question, Answer]):
    question: Question
    answer: Answer | StoreError | None = None
    leads: bool = False
    taken: bool = False
    woken: anyio.Event = field(default_factory=anyio.Event)
    """Set when it is to lead, and when it is answered."""


class Gathering(Generic[Question, Answer]):
    """Answers the questions of many tasks, a round of them at a time."""

    def __init__(self, work: Work[Question, Answer], *, only_reads: bool = False, most: int = ROUND) -> None:
        """Take the work of one round, of ``most`` questions at most.

        A StoreError that the work raises fails the whole round.
        """
        self._work = work
        self._only_reads = only_reads
        self._most = most
        self._waiting: deque[_Ticket[Question, Answer]] = deque()
        self._busy = False
        self._closed = False
        self._idle = anyio.Event()

    async def ask(self, question: Question) -> Answer:
        """Give the answer of the round that the question was in.

        :raises StoreError: the round failed, or this question did, or the gathering is closed.
        """
        await anyio.lowlevel.checkpoint_if_cancelled()
        if self._closed:
            raise StoreError("cannot use the store: it is closed")
        ticket: _Ticket[Question, Answer] = _Ticket(question)
        self._waiting.append(ticket)
        if self._busy:
            await self._wait(ticket)
        else:
            self._busy = ticket.leads = True
        if ticket.leads:
            await self._lead()
        if isinstance(ticket.answer, StoreError):
            raise ticket.answer
        return ticket.answer  # type: ignore[return-value]  # None only where Answer is

    async def close(self) -> None:
        """Take no more questions, and wait until those that were taken are answered."""
        self._closed = True
        if self._busy:
            await self._idle.wait()

    async def _wait(self, ticket: _Ticket[Question, Answer]) -> None:
        try:
            await ticket.woken.wait()
        except anyio.get_cancelled_exc_class():
            if ticket.taken:
                with anyio.CancelScope(shield=not self._only_reads):
                    await ticket.woken.wait()
                raise
            self._waiting.remove(ticket)
            if ticket.leads:
                self._name_leader()
            raise

    async def _lead(self) -> None:
        # Bounded by the work, which a database bounds by its own timeout.
        with anyio.CancelScope(shield=not self._only_reads):
            # Whoever is ready to ask in this turn of the event loop shares the round.
            try:
                await anyio.lowlevel.checkpoint()
            except anyio.get_cancelled_exc_class():
                self._waiting.popleft()
                self._name_leader()
                raise
            await self._hold_round([self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))])

    async def _hold_round(self, tickets: list[_Ticket[Question, Answer]]) -> None:
        for ticket in tickets:
            ticket.taken = True
            ticket.answer = StoreError("cannot tell what came of it: the work broke off")
        try:
            answers = await self._work([ticket.question for ticket in tickets])
            for ticket, answer in zip(tickets, answers, strict=True):
                ticket.answer = answer
        except StoreError as error:
            for ticket in tickets:
                ticket.answer = _copy(error)
        except anyio.get_cancelled_exc_class():
            # The leader goes, and is the first of them; the others' questions are asked again.
            for ticket in reversed(tickets[1:]):
                ticket.taken = False
                self._waiting.appendleft(ticket)
            tickets[1:] = []
            raise
        finally:
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


def _copy(error: StoreError) -> StoreError:
    """Make one to raise in each task: a traceback is written on the error that is raised."""
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__
    return copy
