"""What the endpoint tells of: one process, its run, its reports."""

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
"""The phases in which nothing goes on without Placement."""


Word = Callable[[Sequence[str]], Awaitable[list[str]]]
"""Takes an operator's word on instances by UUID, for none on all that it can be about; gives those that it was."""


class State(Enum):
    """What the process is about."""

    INITIALIZING = "initializing"
    READY = "ready"
    """The host is back; the daemon stays."""
    STOPPING = "stopping"
    FAILED = "failed"
    """The start ended in an error, and the process is about to."""


@dataclass(slots=True)
class FilterState:
    """What became of the rules of guests, which somebody else may take away."""

    put_back: int = 0
    """So often they were."""
    last_at: datetime | None = None
    """When anything was told of them last."""
    problem: str | None = None
    """Why it is not known whether they are in place; None: they are, as far as is known."""


async def _no_reports() -> Pending:
    return Pending()


async def _is_fresh() -> str | None:
    return None


@dataclass(slots=True, kw_only=True)
class StatusSource:
    """Where the answers come from; the service sets what changes."""

    host: str
    version: str
    boot_id: str
    capacity: Capacity
    stuck_after_s: float
    """No step of the work takes longer; after that the process is taken for stuck."""
    pid: int | None = None
    """The process of the daemon, where that is another one."""
    open_files: int | None = None
    """How many file descriptors it has, then."""
    gate_s: float = 0.0
    """How long Placement may be waited for, on top of that, before the first instance is touched."""
    host_s: float = 0.0
    """The same of what the guests need together."""
    recorder: Recorder
    reports: Callable[[], Awaitable[Pending]] = field(default=_no_reports)
    staying: anyio.Event = field(default_factory=anyio.Event)
    """Set when the host is back and the daemon stays."""
    hanging: Callable[[], str | None] = field(default=lambda: None)
    """Says what of the work hangs, in the background too."""
    stopping: bool = False
    waiting: int = 0
    """How many instances are deferred and looked at again by themselves."""
    next_look_at: float | None = None
    """When, in monotonic seconds."""
    filter: FilterState = field(default_factory=FilterState)

    fresh: Callable[[], Awaitable[str | None]] = field(default=_is_fresh)
    """Waits until all that has happened by now is known here; says why it is not, where the daemon does not tell."""

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
        """Take note of what somebody else did to the rules of guests."""
        self.filter.last_at = datetime.now(UTC)
        self.filter.put_back += change.restored
        self.filter.problem = None if change.restored else change.what

    def waits(self, count: int, in_s: float) -> None:
        """Take note of how many wait for what they need, and in how many seconds they are looked at again."""
        self.waiting = count
        self.next_look_at = time.monotonic() + in_s if count else None

    def next_look_s(self) -> float | None:
        """Tell in how many seconds they are looked at again; None where none is."""
        return None if self.next_look_at is None else max(0.0, self.next_look_at - time.monotonic())

    def state(self) -> State:
        """Tell what the process is about."""
        if self.stopping:
            return State.STOPPING
        if self.progress.error is not None:
            return State.FAILED
        return State.READY if self.staying.is_set() else State.INITIALIZING

    def reason(self, snapshot: Snapshot) -> str | None:
        """Say why it is not ready; None where it is."""
        match self.state():
            case State.READY:
                return None
            case State.STOPPING:
                return "stopping: a signal has come"
            case State.FAILED:
                return f"failed: {snapshot.error}"
            case State.INITIALIZING:
                return f"initializing {self.percent(snapshot)} %: {headline(snapshot)}"

    def percent(self, snapshot: Snapshot) -> int:
        """Tell how much is done; 100 only when the host is back."""
        return snapshot.percent if self.staying.is_set() else min(99, snapshot.percent)

    def stuck_for_s(self, snapshot: Snapshot) -> float | None:
        """Tell for how long the work has not moved, where that is too long; None where all is well."""
        working = self.state() is State.INITIALIZING
        waits = {**dict.fromkeys(WITH_PLACEMENT, self.gate_s), "host": self.host_s}
        limit_s = self.stuck_after_s + waits.get(snapshot.phase, 0.0)
        return snapshot.idle_s if working and snapshot.idle_s > limit_s else None
