"""Discrete events: processes that sleep, and servers with a queue.  A day of a region takes seconds."""

import heapq
import random
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from itertools import count
from typing import Literal, TypeVar

SPARE_SHARE = 0.8
"""Of each worker: the rest is what others send."""
WAY_S = 0.01
"""To a refusal and back."""
REFUSAL_S = 0.0005
"""Of one core of a proxy: a connection with TLS, and a 503."""

Reply = Literal["done", "late", "away", "refused"]


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Request:
    """Send a request, and wait for its answer as long as that."""

    server: "Server"
    work_s: float
    patience_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request ended."""

    reply: Reply
    retry_after_s: float | None = None


DONE, LATE, AWAY = Answer("done"), Answer("late"), Answer("away")
Result = TypeVar("Result")
Attempt = Generator[Sleep | Request, Answer, Result]
Process = Attempt[None]


@dataclass
class Events:
    """The clock, and what happens at which time."""

    now_s: float = 0.0
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _number: "count[int]" = field(default_factory=count)

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Schedule an act so much later."""
        heapq.heappush(self._due, (self.now_s + seconds, next(self._number), act))

    def run(self, until_s: float, *, ended: Callable[[], bool]) -> None:
        """Run until that time, or until all has ended."""
        while self._due and self._due[0][0] <= until_s and not ended():
            self.now_s, _, act = heapq.heappop(self._due)
            act()

    def begin(self, process: Process, after_s: float) -> None:
        """Start a process so much later."""
        self.after(after_s, lambda: self._handle(process, next(process, None)))

    def proceed(self, process: Process, answer: Answer) -> None:
        """Continue a process that waited."""
        try:
            step = process.send(answer)
        except StopIteration:
            return
        self._handle(process, step)

    def _handle(self, process: Process, step: Sleep | Request | None) -> None:
        if isinstance(step, Sleep):
            self.after(step.seconds, lambda: self.proceed(process, DONE))
        elif step is not None:
            step.server.accept(process, step)


@dataclass(slots=True, eq=False)
class _Job:
    work_s: float
    process: Process
    is_awaited: bool = True


@dataclass(eq=False)
class Server:
    """Workers with one queue, first in, first out.  They work on what nobody waits for any more too."""

    events: Events
    workers: int
    away_until_s: float = 0.0
    drops_late: bool = False
    """Requests expire: what nobody waits for is not worked on."""
    refuses_above_s: float | None = None
    """A proxy refuses where the queue is longer, and names its length in Retry-After."""
    worked_s: float = 0.0
    wasted_s: float = 0.0
    longest_queue_s: float = 0.0
    longest_refusal_s: float = 0.0
    _proxy_free_s: float = 0.0
    _busy: int = 0
    _queued_s: float = 0.0
    _queue: deque[_Job] = field(default_factory=deque)

    @property
    def queue_s(self) -> float:
        """How long a request of anybody waits now."""
        return self._queued_s / (self.workers * SPARE_SHARE)

    def accept(self, process: Process, request: Request) -> None:
        """Queue a request, or refuse it."""
        events = self.events
        if events.now_s < self.away_until_s:
            self._refuse(process, AWAY)
        elif self.refuses_above_s is not None and self.queue_s > self.refuses_above_s:
            self._refuse(process, Answer("refused", retry_after_s=self.queue_s))
        else:
            job = _Job(request.work_s, process)
            self._queue.append(job)
            self._queued_s += job.work_s
            events.after(request.patience_s, lambda: self._answer(job, LATE))
            self._work()
            self.longest_queue_s = max(self.longest_queue_s, self.queue_s)

    def _refuse(self, process: Process, refusal: Answer) -> None:
        now_s = self.events.now_s
        self._proxy_free_s = max(now_s, self._proxy_free_s) + REFUSAL_S
        took_s = WAY_S + self._proxy_free_s - now_s
        self.longest_refusal_s = max(self.longest_refusal_s, took_s)
        self.events.after(took_s, lambda: self.events.proceed(process, refusal))

    def _answer(self, job: _Job, answer: Answer) -> None:
        if job.is_awaited:
            job.is_awaited = False
            self.events.proceed(job.process, answer)

    def _work(self) -> None:
        while self._busy < self.workers and self._queue:
            job = self._queue.popleft()
            self._queued_s -= job.work_s
            if job.is_awaited or not self.drops_late:
                self._busy += 1
                took_s = job.work_s / SPARE_SHARE * random.uniform(0.9, 1.1)  # noqa: S311 - no secret
                self.events.after(took_s, lambda job=job: self._end(job))  # type: ignore[misc]

    def _end(self, job: _Job) -> None:
        self._busy -= 1
        self.worked_s += job.work_s
        if not job.is_awaited:
            self.wasted_s += job.work_s
        self._answer(job, DONE)
        self._work()
