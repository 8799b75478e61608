"""What a run is made with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from bringup.daemon.decisions.outcomes import RunResult
from bringup.daemon.decisions.policies import UNGUARDED, Guards, Limits, PacePolicy
from bringup.daemon.decisions.resume_policy import Resuming
from bringup.daemon.decisions.run_events import Observer
from bringup.daemon.openstack.resource_provider import HostProvider
from bringup.daemon.recovery.boots import Boots
from bringup.daemon.recovery.executor import Executor
from bringup.daemon.recovery.pause import Pause
from bringup.daemon.recovery.verification import Verification
from bringup.daemon.storage.alive import Alive
from bringup.daemon.storage.journal import NO_JOURNAL, Journal
from bringup.drivers.base import Driver, EventListener, FilterChange
from bringup.drivers.capacity import Capacity


def _ignore_wait(_count: int, _in_s: float) -> None:
    """Ignore it."""


def _ignore_change(_change: FilterChange) -> None:
    """Ignore it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedsPolicy:
    """How long, and how often, deferred instances are checked again."""

    wait_s: float = 0.0
    """For so long with growing waits; 0: they are not checked again automatically."""
    daemon_starts: bool = True
    """The daemon that stays starts guests automatically; False: nova-compute beside it does."""
    first_s: float = 2.0
    longest_s: float = 30.0
    """The waits grow from the one to the other, each jittered."""
    slowly_s: float = 240.0
    """From then on, while the daemon stays: four minutes, half a minute more or less."""
    on_wait: Callable[[int, float], None] = _ignore_wait
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
    """Sends the report; returns where it is, None where none is made."""
    on_event: EventListener | None = None
    """Receives lifecycle events once the driver is initialized; None: they are not handled."""
    journal: Journal = NO_JOURNAL
    resuming: Resuming = field(default_factory=Resuming)
    owes_elsewhere: bool = False
    """Ports and volumes that records name are kept by services that this host cannot tell of a deletion."""
    pace: PacePolicy = field(default_factory=PacePolicy)
    boots: Boots | None = None
    """Guests that boot keep their slots; None: a slot is free when its instance is settled."""
    verification: Verification | None = None
    """Guests that were started are watched after their boot; None: they are not."""
    needs: NeedsPolicy = field(default_factory=NeedsPolicy)
    on_filter_change: Callable[[FilterChange], None] = _ignore_change
    """Called with what others did to the rules of guests while the daemon stays."""
    guards: Guards = UNGUARDED
    accepted_guests: frozenset[str] = frozenset()
    """UUIDs of guests that an operator has accepted without a record of this host."""
    alive: Alive | None = None
    """Records that this host is up; None: that is not recorded."""
    defer_iptables_apply: bool = False

    @property
    def driver(self) -> Driver:
        """The hypervisor."""
        return self.executor.driver

    @property
    def now(self) -> Callable[[], datetime]:
        """The clock."""
        return self.executor.now

    @property
    def pause(self) -> Pause:
        """Whether starts are paused."""
        return self.executor.start_claim.pause


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """What comes before the host: each may take long, each may raise what ends the start."""

    pass_placement: Callable[[], Awaitable[HostProvider | None]]
    """Returns when this host may serve Placement; None where nothing more is to be done there."""
    open_host: Callable[[], Awaitable[Host]]
    """Opens the driver and the store; touches no instance."""
    observer: Observer
