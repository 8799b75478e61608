"""What came of each instance, and of the run.  Values: built by the shell, shown by reports, tables and logs."""

import enum
from dataclasses import dataclass

from bringup.daemon.decisions.instances import Instance
from bringup.drivers.needs import Need


class Kind(enum.Enum):
    """What came of one instance."""

    INITIALIZED = "initialized"
    """Every rule that held was carried out."""
    SKIPPED = "skipped"
    """It is not this host's to touch, or there is nothing to do."""
    FAILED = "failed"
    """Something that was to be done could not be; the error says what."""
    SUPERSEDED = "superseded"
    """Somebody else changed the record meanwhile; their change stands."""
    HELD = "held"
    """A guard wants an operator's word first."""
    DEFERRED = "deferred"
    """Something that its guest needs is not there: it was not started, and its record is as it was."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as it is shown: which action, the class, the whole chain of messages."""

    action: str
    error: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one instance."""

    uuid: str
    kind: Kind
    because: tuple[str, ...]
    """Names of the rules that held, in order."""
    took_s: float
    name: str = ""
    """Name of the instance for an operator (:attr:`Instance.shown_name`), empty where no record was read."""
    project_id: str | None = None
    problem: Problem | None = None
    """Why it failed, was superseded or deferred."""
    needs: tuple[Need, ...] = ()
    """What was not met, where it was deferred."""
    runs: bool = False
    """Its guest ran when it was last looked at."""
    warnings: tuple[Problem, ...] = ()
    """What went wrong on the way and did not stop it."""
    slowest: tuple[str, float] | None = None
    """The action that took longest, and its seconds."""
    instance: Instance | None = None
    """The record as it was left; None where the row was deleted or never read."""
    deleted: bool = False
    """The row is gone: this run deleted it, or found it deleted."""

    def says_the_same(self, other: "Outcome") -> bool:
        """Tell whether another one says nothing new, whatever time it took."""
        mine = (self.kind, self.because, self.needs, self.instance, self.deleted)
        return mine == (other.kind, other.because, other.needs, other.instance, other.deleted)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What came of one run of ``init_host``."""

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
    revision: int = 0
    """How often outcomes were changed after the run, because an operator released what was held."""

    def count(self, kind: Kind) -> int:
        """Tell how many instances came out as ``kind``."""
        return sum(outcome.kind is kind for outcome in self.outcomes)
