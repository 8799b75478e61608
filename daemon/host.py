"""What a run is made with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from bringup.daemon.executor import Executor
from bringup.daemon.init_instance import Observer
from bringup.daemon.outcomes import Outcome, RunResult
from bringup.drivers.base import Driver, EventListener


class RunObserver(Observer, Protocol):
    """Who is told how far the run is."""

    def phase_began(self, phase: str, detail: str = "") -> None:
        """Take note of a phase."""

    def work_found(self, total: int) -> None:
        """Take note of how many instances there are."""

    def instance_began(self, uuid: str) -> None:
        """Take note that an instance got its slot."""

    def instance_ended(self, outcome: Outcome) -> None:
        """Take note of an outcome."""

    def run_ended(self) -> None:
        """Take note that nothing more will come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much at once, and how long at most (seconds)."""

    concurrency: int
    instance_deadline_s: float
    host_deadline_s: float
    last_word_deadline_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host whose driver and records are at hand."""

    name: str
    run_id: str
    boot_id: str
    executor: Executor
    observer: RunObserver
    limits: Limits
    report: Callable[[RunResult], Awaitable[None]]
    on_event: EventListener | None = None
    """Takes lifecycle events in from the moment the driver is initialized; None: they are not wanted."""
    resume_guests: bool = False
    defer_iptables_apply: bool = False

    @property
    def driver(self) -> Driver:
        """The hypervisor."""
        return self.executor.driver


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What comes before the host: each may take long, each may raise what ends the start."""

    pass_placement: Callable[[], Awaitable[None]]
    """Returns when this host may serve Placement."""
    open_host: Callable[[], Awaitable[Host]]
    """Opens the driver and the store; touches no instance."""
    observer: RunObserver
