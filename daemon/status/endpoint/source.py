"""Data of the endpoint: one process, its run, its reports."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum

import anyio

from bringup.daemon.status.endpoint.recorder import Recorder
from bringup.daemon.status.progress import Progress
from bringup.daemon.status.snapshot import Snapshot, headline
from bringup.daemon.storage.outbox.base import Pending
from bringup.drivers.base import FilterChange
from bringup.drivers.capacity import Capacity

WITH_PLACEMENT = ("placement", "driver")
"""The phases that cannot proceed without Placement."""


RequestHandler = Callable[[Sequence[str]], Awaitable[list[str]]]
"""Applies an operator request, to instances by UUID or with another argument; returns what it was applied to."""


class State(Enum):
    """State of the process."""

    INITIALIZING = "initializing"
    READY = "ready"
    """The host is back; the daemon stays."""
    STOPPING = "stopping"
    FAILED = "failed"
    """The start ended in an error, and the process is about to end."""


@dataclass(slots=True)
class FilterState:
    """State of the rules of guests, which other processes may remove."""

    restored: int = 0
    """How often they were restored."""
    last_at: datetime | None = None
    """When they changed last."""
    problem: str | None = None
    """Why it is not known whether they are in place; None: they are, as far as is known."""


async def _no_reports() -> Pending:
    return Pending()


async def _is_fresh() -> str | None:
    return None


@dataclass(slots=True, kw_only=True)
class StatusSource:
    """Data of all answers; the service sets what changes."""

    host: str
    version: str
    boot_id: str
    capacity: Capacity
    stuck_after_s: float
    """No step of the work takes longer; after that the process counts as stuck."""
    pid: int | None = None
    """The process id of the daemon, where that is another process."""
    open_files: int | None = None
    """How many file descriptors it has open, then."""
    gate_s: float = 0.0
    """How long Placement may be waited for, on top of that, before the first instance is touched."""
    host_s: float = 0.0
    """The same of what the guests need together."""
    recorder: Recorder
    reports: Callable[[], Awaitable[Pending]] = field(default=_no_reports)
    staying: anyio.Event = field(default_factory=anyio.Event)
    """Set when the host is back and the daemon stays."""
    hanging: Callable[[], str | None] = field(default=lambda: None)
    """Returns what hangs, in the background too."""
    stopping: bool = False
    waiting: int = 0
    """How many instances are deferred and checked again automatically."""
    next_check_at: float | None = None
    """When, in monotonic seconds."""
    filter: FilterState = field(default_factory=FilterState)

    fresh: Callable[[], Awaitable[str | None]] = field(default=_is_fresh)
    """Waits until all that has happened by now is known here; returns why it is not, if the daemon does not answer."""

    @property
    def progress(self) -> Progress:
        """How far the run is."""
        return self.recorder.progress

    @property
    def slots(self) -> int:
        """How many instances are worked on at once at most."""
        return self.capacity.number

    @slots.setter
    def slots(self, number: int) -> None:
        self.capacity.resize(number)

    def filter_changed(self, change: FilterChange) -> None:
        """Store a change of the rules of guests by another process."""
        self.filter.last_at = datetime.now(UTC)
        self.filter.restored += change.restored
        self.filter.problem = None if change.restored else change.what

    def waits(self, count: int, in_s: float) -> None:
        """Store how many instances are deferred, and in how many seconds they are checked again."""
        self.waiting = count
        self.next_check_at = time.monotonic() + in_s if count else None

    def next_check_s(self) -> float | None:
        """Return in how many seconds they are checked again; None where none is deferred."""
        return None if self.next_check_at is None else max(0.0, self.next_check_at - time.monotonic())

    def state(self) -> State:
        """Return the state of the process."""
        if self.stopping:
            return State.STOPPING
        if self.progress.error is not None:
            return State.FAILED
        return State.READY if self.staying.is_set() else State.INITIALIZING

    def reason(self, snapshot: Snapshot) -> str | None:
        """Return why it is not ready; None where it is."""
        match self.state():
            case State.READY:
                return None
            case State.STOPPING:
                return "stopping: a stop signal was received"
            case State.FAILED:
                return f"failed: {snapshot.error}"
            case State.INITIALIZING:
                return f"initializing {self.percent(snapshot)} %: {headline(snapshot)}"

    def percent(self, snapshot: Snapshot) -> int:
        """Return how much is done; 100 only when the host is back."""
        return snapshot.percent if self.staying.is_set() else min(99, snapshot.percent)

    def stuck_for_s(self, snapshot: Snapshot) -> float | None:
        """Return for how long nothing has ended, where that is too long; None where it is not."""
        working = self.state() is State.INITIALIZING
        waits = {**dict.fromkeys(WITH_PLACEMENT, self.gate_s), "host": self.host_s}
        limit_s = self.stuck_after_s + waits.get(snapshot.phase, 0.0)
        return snapshot.idle_s if working and snapshot.idle_s > limit_s else None
