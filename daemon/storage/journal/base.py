"""Values that a journal stores, and its base class.

A run that was interrupted continues when the daemon starts again on the same boot: it keeps its ``run_id``, settled
instances stay settled, those that were in flight are checked again.  On another boot a new run starts.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import Outcome, RunResult
from bringup.daemon.decisions.readiness import Readiness
from bringup.daemon.decisions.rules import Step
from bringup.daemon.decisions.states import TaskState, UnknownState, VmState, task_state, vm_state
from bringup.daemon.decisions.verdicts import GuestVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Columns that show whether a record is still as a run left it; states as Nova writes them."""

    host: str | None
    vm_state: str
    task_state: str | None

    @classmethod
    def of(cls, instance: Instance) -> "Left":
        """Build it from a record."""
        task_state = instance.task_state
        return cls(
            host=instance.host,
            vm_state=str(instance.vm_state.value),
            task_state=None if task_state is None else str(task_state.value),
        )

    def states(self) -> tuple[VmState | UnknownState, TaskState | UnknownState | None]:
        """Return the states as values."""
        return vm_state(self.vm_state), task_state(self.task_state)


@dataclass(frozen=True, slots=True)
class FailedBefore:
    """An instance whose record a failure of bringup changed: set to ERROR, or its task state cleared."""

    was: Left
    """Its record before the run changed it."""
    left: Left
    """Its record after the run."""
    is_of_boot: bool
    """It failed on this boot."""


@dataclass(frozen=True, slots=True)
class Settled:
    """An instance for which the unfinished run has an outcome."""

    outcome: Outcome
    """Without its record."""
    left: Left | None
    """Its record after the run; None if it was deleted or never read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """An instance that was in progress when the last run was interrupted."""

    because: tuple[str, ...] = ()
    """Names of the rules that had held, in order."""
    begun: tuple[str, ...] = ()
    """Verbs that were begun and whose end was not written: done, half done or not done."""
    done: tuple[str, ...] = ()
    """Verbs that succeeded, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """The run that starts, unless an interrupted one continues."""

    run_id: str
    boot_id: str
    host: str
    began_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Content of the journal when a run started."""

    run_id: str
    """Of the run that continues, else of the new one."""
    attempt: int = 1
    """How many times this run was begun, this time included."""
    was_cut_short: bool = False
    """The last run was interrupted, on this boot or on another."""
    settled: Mapping[str, Settled] = field(default_factory=dict)
    """By UUID; of the run that continues, without held and deferred instances."""
    in_flight: Mapping[str, InFlight] = field(default_factory=dict)
    """By UUID; of the last run, if it was interrupted, on this boot or on another."""
    resumed: frozenset[str] = frozenset()
    """UUIDs of instances whose guest was brought back on this boot."""
    boot_settled: bool = False
    """A run was ended on this boot: what only a host boot justifies is over."""
    held: frozenset[str] = frozenset()
    """UUIDs that have not had their turn on this boot: held, deferred, or a start that failed or was refused."""
    memory_lost: bool = False
    """A journal was set aside on this boot: what was done on it before is unknown."""
    downtime_s: float | None = None
    """Host downtime before this boot, in seconds (since the last journal write); None if unknown."""
    suspects: Mapping[str, int] = field(default_factory=dict)
    """On how many boots in a row, up to the last, an instance was in flight when the host died."""
    retried: frozenset[str] = frozenset()
    """UUIDs for which an operator requested a retry, and that have no outcome since."""
    took_s: Mapping[str, float] = field(default_factory=dict)
    """By UUID: how long a guest took from its slot until it was ready, the last time before this run, in seconds."""
    released: frozenset[str] = frozenset()
    """UUIDs that an operator has released, and that have no outcome since; ``"*"``: all that were held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDisks:
    """Disks of a destroyed guest that are set aside."""

    uuid: str
    where: tuple[str, ...]
    kept_at: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPause:
    """Pause of all starts, requested by an operator."""

    since: datetime
    until: datetime
    """When it ends by itself."""


class Journal:
    """The journal of one host.  What is awaited is on disk on return, unless it may wait (``at_once``).

    This one remembers nothing: for what is not a run, such as the lifecycle events, and for trials.  Every method of
    another may raise :class:`bringup.daemon.errors.JournalError`: it could not be written or read.
    """

    async def begin_run(self, run: NewRun) -> Past:
        """Start a run, or continue the interrupted one of the same boot and host."""
        return Past(run_id=run.run_id)

    async def began(
        self, uuid: str, step: Step, because: Sequence[str], *, was: Left | None = None, at_once: bool = True
    ) -> None:
        """Write that ``step`` is about to start, and the rules that have held for the instance so far.

        ``was``: the record before its first step.  Without ``at_once`` it may wait (:meth:`sharing_commits`): a step
        that may be done again, as if it had not been done, needs no more.
        """

    def ended(self, uuid: str, step: Step, error: Exception | None) -> None:
        """Note the end of ``step``; it is written with whatever is written next for this instance."""

    async def settled(self, outcome: Outcome, *, at_once: bool = True) -> None:
        """Write the outcome of an instance.

        Without ``at_once`` it may wait, unless a step of the instance had to be on disk before: after a kill in between
        the instance is decided on again, in the same way.
        """

    def may_share(self, uuid: str) -> bool:
        """Check whether the outcome of an instance may share a commit: nothing of it had to be on disk before."""
        del uuid
        return False

    async def settled_with_others(self, outcome: Outcome) -> None:
        """Write the outcome of an instance, a moment later, in a commit that others share."""

    @asynccontextmanager
    async def sharing_commits(self) -> AsyncIterator[None]:
        """Allow entries to wait in this block, each for a bounded time; none waits after it."""
        yield

    async def ready(self, uuid: str, readiness: Readiness) -> None:
        """Write how long the guest of a settled instance took to be ready."""

    async def verified(self, uuid: str, verdict: GuestVerdict) -> None:
        """Write the verdict on the guest of a settled instance."""

    async def end_run(self, result: RunResult, *, delivery: str | None) -> None:
        """Write the end of a run; one with unfinished instances was stopped, and continues at the next start."""

    async def kept(self, disks: KeptDisks) -> None:
        """Write where disks were set aside; repeating it is harmless, the first time counts."""

    async def kept_disks(self) -> list[KeptDisks]:
        """Return the disks that are set aside and not deleted yet, oldest first."""
        return []

    async def disks_deleted(self, uuid: str) -> None:
        """Write that disks that were set aside are deleted."""

    async def seen(self, at: datetime) -> None:
        """Write that this host was alive: the next boot computes its downtime from it."""

    async def releases(self) -> frozenset[str]:
        """Return what an operator has released, and what has no outcome since: UUIDs, or :data:`ALL`."""
        return frozenset()

    async def retries(self) -> frozenset[str]:
        """Return the UUIDs for which an operator requested a retry, and that have no outcome since."""
        return frozenset()

    async def pause(self) -> StartPause | None:
        """Return the pause of starts that was requested last; None: none was, or an operator has ended it."""
        return None

    async def failures(self) -> Mapping[str, FailedBefore]:
        """Return, by UUID, what a failure has changed in a run that this journal has; the last time counts."""
        return {}


NO_JOURNAL = Journal()
