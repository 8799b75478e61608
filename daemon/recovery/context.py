"""What a run is made with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from bringup.daemon.decisions.outcomes import RunResult
from bringup.daemon.decisions.policies import UNGUARDED, Guards, Limits
from bringup.daemon.decisions.resume_policy import Resuming
from bringup.daemon.decisions.run_events import Observer
from bringup.daemon.openstack.resource_provider import HostProvider
from bringup.daemon.recovery.executor import Executor
from bringup.daemon.storage.alive import Alive
from bringup.daemon.storage.journal import NO_JOURNAL, Journal
from bringup.drivers.base import Driver, EventListener, FilterChange
from bringup.drivers.capacity import Capacity


def _nobody(_count: int, _in_s: float) -> None:
    """Ignore it."""


def _unheard(_change: FilterChange) -> None:
    """Ignore it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedsPolicy:
    """How long what is deferred is tried again for."""

    wait_s: float = 0.0
    """With growing waits, for so long; 0: it is not tried again by itself."""
    daemon_starts: bool = True
    """The daemon that stays starts guests by itself; False: nova-compute works beside it, and does that."""
    first_s: float = 2.0
    longest_s: float = 30.0
    """The waits grow from the one to the other, each jittered."""
    slowly_s: float = 240.0
    """From then on, while the daemon stays: four minutes, half a minute more or less."""
    on_wait: Callable[[int, float], None] = _nobody
    """Called with how many wait, and in how many seconds they are checked again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host whose driver and records are open."""

    name: str
    run_id: str
    """UUID of the run, unless one that was cut short is continued."""
    boot_id: str
    executor: Executor
    observer: Observer
    limits: Limits
    capacity: Capacity
    """The slots in which instances are worked on; their number may change at any time."""
    report: Callable[[RunResult], Awaitable[str | None]]
    """Tells the scheduler; gives in a word where the report is, None where none is made."""
    on_event: EventListener | None = None
    """Takes lifecycle events in from the moment the driver is initialized; None: they are not wanted."""
    journal: Journal = NO_JOURNAL
    resuming: Resuming = field(default_factory=Resuming)
    owes_elsewhere: bool = False
    """Ports and volumes that records name are kept by services that this host cannot tell of a deletion."""
    needs: NeedsPolicy = field(default_factory=NeedsPolicy)
    on_filter_change: Callable[[FilterChange], None] = _unheard
    """Called with what others did to the rules of guests while the daemon stays."""
    guards: Guards = UNGUARDED
    accepted_guests: frozenset[str] = frozenset()
    """UUIDs of guests that need no record here: an operator has said so."""
    now: Callable[[], datetime]
    alive: Alive | None = None
    """Where it is noted that this host is up; None: nowhere."""
    defer_iptables_apply: bool = False

    @property
    def driver(self) -> Driver:
        """The hypervisor."""
        return self.executor.driver


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """What comes before the host: each may take long, each may raise what ends the start."""

    pass_placement: Callable[[], Awaitable[HostProvider | None]]
    """Returns when this host may serve Placement; None where nothing more is to be done there."""
    open_host: Callable[[], Awaitable[Host]]
    """Opens the driver and the store; touches no instance."""
    observer: Observer
