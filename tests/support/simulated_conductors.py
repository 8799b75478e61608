"""The same region behind the gate, simulated: hosts load their instances through nova-conductor, and save them.

A host sends three small requests and loads its instances in pages, then has 1.4 small requests for each (looks are
shared) around a start in one of its slots, and saves every tenth instance.  A call is repeated as ``Rpc.call`` repeats
it.  The costs are those of docs/performance.md: what a worker answers in a second.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from bringup.daemon.openstack.rpc.client import FIRST_SILENCE_S
from support.discrete_events import DONE, SPARE_SHARE, Attempt, Events, Process, Request, Server, Sleep
from support.region import RESTART_S
from support.simulated_region import BOOTED_S, BOOTED_SD_S

SMALL_S, SAVE_S, LOADED_S = 1 / 204, 1 / 63, 1 / 752
PAGE = 200
DEADLINE_S = 60.0
"""``messaging.deadline``."""
SLOTS = 16
START_S = 3.0
LOOKS = 1.4
SAVED_EVERY = 10
LIMIT_S = 3600.0


@dataclass
class Cell:
    """Hosts of one cell, and its conductors."""

    hosts: int
    guests: int
    workers: int
    expires: bool
    events: Events = field(default_factory=Events)
    ended_at_s: list[float] = field(default_factory=list)
    sent: int = 0
    failed: int = 0
    """Instances of which a call was given up."""
    exits: int = 0
    """Processes that ended with 75, since the instances could not be loaded."""

    def __post_init__(self) -> None:
        """Start the conductors."""
        self.conductor = Server(self.events, self.workers, drops_late=self.expires)

    @property
    def is_ended(self) -> bool:
        """Whether all hosts are back."""
        return len(self.ended_at_s) == self.hosts


def _call(cell: Cell, work_s: float) -> Attempt[bool]:
    """Call until it is answered or the deadline is over; return whether it was."""
    until_s, silence_s = cell.events.now_s + DEADLINE_S, FIRST_SILENCE_S
    while (left_s := until_s - cell.events.now_s) > 0:
        cell.sent += 1
        if (yield Request(cell.conductor, work_s, min(silence_s, left_s))) is DONE:
            return True
        silence_s *= 2
    return False


def _host(cell: Cell) -> Process:
    """Load the instances, then start them, as many at once as there are slots."""
    pages = [min(PAGE, cell.guests - first) * LOADED_S for first in range(0, cell.guests, PAGE)]
    while True:
        for work_s in (SMALL_S, SMALL_S, SMALL_S, *pages):
            if not (yield from _call(cell, work_s)):
                break
        else:
            break
        cell.exits += 1
        yield Sleep(RESTART_S)
    waiting, left = list(range(cell.guests)), [cell.guests]

    def begin_next() -> None:
        if waiting:
            cell.events.begin(_guest(cell, waiting.pop(), end), 0)

    def end() -> None:
        left[0] -= 1
        if left[0] == 0:
            cell.ended_at_s.append(cell.events.now_s)
        begin_next()

    for _ in range(SLOTS):
        begin_next()


def _guest(cell: Cell, number: int, end: Callable[[], None]) -> Process:
    """Read the power state, start, read it again, and save every tenth."""
    is_saved = number % SAVED_EVERY == 0
    looked = yield from _call(cell, SMALL_S * LOOKS / 2)
    if looked:
        yield Sleep(random.uniform(0.7, 1.3) * START_S)  # noqa: S311 - no secret
        looked = yield from _call(cell, SMALL_S * LOOKS / 2)
    if looked and is_saved:
        looked = yield from _call(cell, SAVE_S)
    cell.failed += not looked
    end()


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a simulation shows; seconds from when the first host boots."""

    ideal_s: float
    all_s: float | None
    """None: not all hosts were back when it was given up."""
    wasted: float
    """Share of the conductors' work that nobody waited for."""
    longest_queue_s: float
    failed: int
    exits: int


def simulate(hosts: int, guests: int, workers: int, *, expires: bool, seed: int = 1) -> Figures:
    """Bring the guests of all hosts back; ``expires``: a message is dropped when its sender stops waiting."""
    random.seed(seed)
    cell = Cell(hosts=hosts, guests=guests, workers=workers, expires=expires)
    booted_at = sorted(max(0.0, random.gauss(BOOTED_S, BOOTED_SD_S)) for _ in range(hosts))
    for at_s in booted_at:
        cell.events.begin(_host(cell), at_s)
    cell.events.run(LIMIT_S, ended=lambda: cell.is_ended)
    work_s = 3 * SMALL_S + guests * (LOADED_S + LOOKS * SMALL_S + SAVE_S / SAVED_EVERY)
    free_s = 0.0
    for at_s in booted_at:
        free_s = max(free_s, at_s) + work_s / workers / SPARE_SHARE
    first_s, conductor = booted_at[0], cell.conductor
    return Figures(
        ideal_s=max(free_s, booted_at[-1] + guests / SLOTS * START_S) - first_s,
        all_s=cell.ended_at_s[-1] - first_s if cell.is_ended else None,
        wasted=conductor.wasted_s / conductor.worked_s if conductor.worked_s else 0.0,
        longest_queue_s=conductor.longest_queue_s,
        failed=cell.failed,
        exits=cell.exits,
    )
