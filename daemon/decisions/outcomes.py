"""Outcomes of instances and of the run.  Values: built by the shell, shown by reports, tables and logs."""

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.verdicts import GuestVerdict
from bringup.drivers.needs import Need, NeedKind


class Kind(enum.Enum):
    """Kind of an outcome."""

    INITIALIZED = "initialized"
    """Every rule that held was carried out."""
    SKIPPED = "skipped"
    """It is not this host's to touch, or there is nothing to do."""
    FAILED = "failed"
    """An action failed; the error says which."""
    SUPERSEDED = "superseded"
    """The record was changed by others meanwhile; their change stands."""
    HELD = "held"
    """A guard requires operator approval first."""
    DEFERRED = "deferred"
    """A need of its guest is not met: it was not started, and its record is unchanged."""


class Did(enum.Enum):
    """What was done to one instance (:mod:`bringup.daemon.decisions.did`)."""

    STARTED = "started"
    """Its guest was off and was powered on."""
    LEFT_RUNNING = "left_running"
    """Its guest ran and was not touched."""
    LEFT_PAUSED = "left_paused"
    """Its guest was paused and was not touched."""
    REBOOTED = "rebooted"
    UNPAUSED = "unpaused"
    STOPPED = "stopped"
    """Its guest was shut down, because that was requested or its record says so."""
    POWERED_OFF = "powered_off"
    """Its guest was powered off at once, because it must not run on this host."""
    STAYS_OFF = "stays_off"
    """Its guest was off and is not to run."""
    DESTROYED = "destroyed"
    """Its guest was destroyed on this host; its record is kept."""
    DELETED = "deleted"
    """Its record was deleted, after its guest was destroyed."""
    SET_TO_ERROR = "set_to_error"
    """Its record was set to ERROR."""
    DEFERRED = "deferred"
    """It was not started: something that it needs is not there, or not known."""
    HELD = "held"
    """It was not touched: an operator has to approve first."""
    LEFT_ALONE = "left_alone"
    """Nothing was done to its guest."""
    UNKNOWN = "unknown"
    """An action did not end well, and what it has done is not known; or a version without this wrote the journal."""


NEED_ATTENTION = (
    *(Kind.FAILED, Did.SET_TO_ERROR),
    *(Kind.HELD, Kind.DEFERRED, Kind.SUPERSEDED),
)
"""What an operator should know of, the most urgent first; an instance in which several are true has its kind."""
BACK = (Did.STARTED, Did.LEFT_RUNNING, Did.REBOOTED, Did.UNPAUSED)
"""Its guest runs on this host."""


def did_named(value: str | None) -> Did:
    """Return what was done by its value; unknown where another version of bringup wrote it."""
    return next((did for did in Did if did.value == value), Did.UNKNOWN)


def attention_of(kind: Kind, did: Did | None) -> Kind | Did | None:
    """Return why an instance needs the attention of an operator; None where it does not."""
    return next((each for each in (kind, did) if each in NEED_ATTENTION), None)


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as it is shown: which action, the class, the whole chain of messages."""

    action: str
    error: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Outcome of one instance."""

    uuid: str
    kind: Kind
    because: tuple[str, ...]
    """Names of the rules that held, in order."""
    took_s: float
    name: str = ""
    """Name of the instance for an operator (:attr:`Instance.shown_name`), empty where no record was read."""
    project_id: str | None = None
    did: Did = Did.UNKNOWN
    problem: Problem | None = None
    """Why it failed, was superseded or deferred."""
    needs: tuple[Need, ...] = ()
    """What was not met, where it was deferred."""
    runs: bool = False
    """Its guest ran at the last check."""
    warnings: tuple[Problem, ...] = ()
    """What went wrong on the way and did not stop it."""
    slowest: tuple[str, float] | None = None
    """The action that took longest, and its seconds."""
    instance: Instance | None = None
    """The record as it was left; None where the row was deleted or never read."""
    deleted: bool = False
    """The row is gone: this run deleted it, or found it deleted."""

    @property
    def is_paused(self) -> bool:
        """Check whether it waits for the end of a pause of starts."""
        return is_pause(self.needs)

    def says_the_same(self, other: "Outcome") -> bool:
        """Check whether another one has nothing new, whatever time it took."""
        mine = (self.kind, self.did, self.because, self.needs, self.instance, self.deleted)
        return mine == (other.kind, other.did, other.because, other.needs, other.instance, other.deleted)


def is_pause(needs: Iterable[Need]) -> bool:
    """Check whether it is the end of a pause of starts that is waited for."""
    return any(need.kind is NeedKind.PAUSE for need in needs)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """Outcome of one run of ``init_host``."""

    run_id: str
    """UUID of the run."""
    boot_id: str
    """The kernel's boot id."""
    host: str
    outcomes: tuple[Outcome, ...]
    """One an instance, in the order in which they ended."""
    unfinished: tuple[str, ...]
    """UUIDs of instances that the run did not get to, or gave up in the middle, because it was stopped."""
    took_s: float
    error: str | None = None
    """What stopped the run, None where nothing did."""
    ready: Mapping[str, Any] | None = None
    """When its guests were ready (:func:`.times_json`), as far as is known; None: it followed none."""
    verdicts: Mapping[str, GuestVerdict] = field(default_factory=dict)
    """On the guests that it started, by UUID, as far as they are known."""
    revision: int = 0
    """How often it was reported again, because an outcome was changed after the run, or verdicts are known."""

    def count(self, kind: Kind) -> int:
        """Return how many instances have an outcome of ``kind``."""
        return sum(outcome.kind is kind for outcome in self.outcomes)

    def counts(self) -> dict[str, int]:
        """Return how many instances have each outcome, by the value of :class:`Kind`; 0 where none has it."""
        counts = Counter(outcome.kind for outcome in self.outcomes)
        return {kind.value: counts[kind] for kind in Kind}

    def count_done(self) -> dict[str, int]:
        """Return how many instances have each :class:`Did`, by its value; one that no instance has is no key."""
        counts = Counter(outcome.did for outcome in self.outcomes)
        return {did.value: counts[did] for did in Did if counts[did]}
