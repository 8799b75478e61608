"""Progress of a run at one moment, as a value: what a terminal, systemd's ``STATUS=`` and the status endpoint show.

Made by :meth:`bringup.daemon.status.progress.Progress.snapshot`.  No I/O, no clock, no logger.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bringup.daemon.decisions.outcomes import Did, Kind
from bringup.daemon.text import counted, labelled
from bringup.daemon.time_spans import in_words


@dataclass(frozen=True, slots=True)
class InstanceNow:
    """An instance that is being worked on."""

    uuid: str
    verb: str
    """The action that is being done, as the driver calls it."""
    age_s: float
    """Seconds since it got its slot."""
    verb_age_s: float
    """Seconds since the action began."""
    name: str = ""
    project: str | None = None

    @property
    def summary(self) -> str:
        """What it does, and for how long."""
        return f"running for {in_words(self.age_s)}, {self.verb} for {in_words(self.verb_age_s)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """How far a run is."""

    phase: str
    """starting, placement, driver, records, evacuated, instances, allocations, report, done, or failed."""
    detail: str
    """What the phase waits for; empty where it does not wait."""
    phase_age_s: float
    age_s: float
    """Seconds since the process began."""
    total: int
    """How many instances there are to settle; 0 before the records are loaded."""
    counts: Mapping[Kind, int]
    """Settled instances by outcome; every kind is there."""
    did: Mapping[Did, int] = field(default_factory=dict)
    """Settled instances by what was done to them; every value is there."""
    warnings: int
    """Settled instances on whose way something went wrong that did not stop them."""
    running: tuple[InstanceNow, ...] = ()
    """Instances that are being worked on, the one that has its slot longest first."""
    rate: float | None = None
    """Settled instances a second; None before the first."""
    eta_s: float | None = None
    advances: int = 0
    """Counts every action and phase that ended and every instance that was settled: the same number twice means that
    the run has not moved in between."""
    idle_s: float = 0.0
    """Seconds since ``advances`` last grew."""
    run_id: str | None = None
    """None before the records are asked for."""
    attempt: int = 0
    error: str | None = None
    """What ended the start; None where nothing did."""
    pace: Mapping[str, Any] | None = None
    """Guests that boot and the limit (:meth:`.BootsProgress.document`); None: no guest was started."""
    paused_until: str = ""
    """Until when starts are paused; empty where they are not."""

    @property
    def done(self) -> int:
        """How many instances are settled."""
        return sum(self.counts.values())

    @property
    def booting(self) -> int:
        """How many guests were started and are not ready yet."""
        return 0 if self.pace is None else int(self.pace["booting"])

    @property
    def waiting(self) -> int:
        """How many instances have not got a slot yet."""
        return max(0, self.total - self.done - len(self.running))

    @property
    def slowest(self) -> InstanceNow | None:
        """The instance that has been worked on longest."""
        return self.running[0] if self.running else None

    @property
    def ended(self) -> bool:
        """Whether the run is over and the host is back."""
        return self.phase == "done"

    @property
    def percent(self) -> int:
        """How much of the run is done; 100 only when all is."""
        if self.ended:
            return 100
        return min(99, 100 * self.done // self.total) if self.total else 0


ALSO_OUTCOMES = (Did.HELD, Did.DEFERRED)
"""Counted among the outcomes."""
ENDED_BADLY = (Kind.FAILED, Kind.HELD, Kind.DEFERRED)


def counts_line(snapshot: Snapshot) -> str:
    """Return the counts: ``137/412 done, 134 started, 3 failed, 8 running, 267 waiting, 12.0/s, ETA 23 s``.

    What was done is counted, and outcomes that need attention: an instance that failed is in both.
    """
    parts = _counts(snapshot)
    if not snapshot.ended:
        parts += [f"{len(snapshot.running)} running", f"{snapshot.waiting} waiting"]
        if snapshot.rate is not None:
            parts.append(f"{snapshot.rate:.1f}/s")
    return ", ".join([*parts, *_eta(snapshot)])


def headline(snapshot: Snapshot) -> str:
    """Return one line: ``137/412 done, 134 started, 3 failed, ETA 2 min 0 s, slowest web (<uuid>) plug_vifs 41 s``.

    Before there is work it is what the start waits for, such as ``placement: no answer yet``.
    """
    if not snapshot.total or snapshot.phase in ("starting", "placement", "driver", "records", "host"):
        return f"{snapshot.phase}: {snapshot.detail}" if snapshot.detail else snapshot.phase
    paused = [f"starts paused until {snapshot.paused_until}"] if snapshot.paused_until else []
    parts = paused + _counts(snapshot) + _eta(snapshot)
    slowest = snapshot.slowest
    if slowest is not None:
        parts.append(f"slowest {labelled(slowest.uuid, slowest.name)} {slowest.verb} {in_words(slowest.verb_age_s)}")
    return ", ".join(parts)


def _counts(snapshot: Snapshot) -> list[str]:
    did = counted({did.value: count for did, count in snapshot.did.items() if did not in ALSO_OUTCOMES})
    kinds = counted({kind.value: snapshot.counts[kind] for kind in ENDED_BADLY})
    booting = f"{snapshot.booting} booting" if snapshot.booting else ""
    return [part for part in (f"{snapshot.done}/{snapshot.total} done", did, kinds, booting) if part]


def _eta(snapshot: Snapshot) -> list[str]:
    is_known = snapshot.eta_s is not None and snapshot.done < snapshot.total
    return [f"ETA {in_words(snapshot.eta_s or 0.0)}"] if is_known else []
