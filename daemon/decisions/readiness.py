"""When a guest that was started is ready, and how long guests took until they were.

A guest is ready when its agent has connected; where its definition has no channel for one, when its vCPUs and disks are
quiet, a little earlier if it has sent packets.  None of this is proof: a busy service is never quiet, so nothing but a
slot depends on it.  No I/O, no clock, no logger.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from bringup.daemon.decisions.activity import is_at_work
from bringup.daemon.decisions.outcomes import Did, Outcome
from bringup.daemon.decisions.pace_keys import Ready
from bringup.daemon.decisions.rules import Facts
from bringup.drivers.base import BootCounters, BootSigns

ReadyBy = Literal["agent", "packet", "quiet"]
READY_BY: Final = get_args(ReadyBy)
QUIET_S: Final = 3.0
"""For so long; one that has sent a packet only from one look to the next."""
RAN_S: Final = 0.05
"""A guest that has run less has not begun to boot."""
BOOTS: Final = (Did.STARTED, Did.REBOOTED)
SLOWEST: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """How a guest that was started became ready, or that it has not shown it for as long as it was waited for."""

    by: ReadyBy | None
    """What showed it; None: nothing did."""
    at_s: float
    """Since the run began."""
    queued_s: float
    """Until it got its slot."""
    start_s: float
    """From there until it was started."""
    boot_s: float
    """From there until it was ready."""
    cpu_wait_s: float = 0.0
    """Of the boot: its vCPUs waited for a CPU, all together."""
    read_s: float = 0.0
    """Of the boot: its reads took."""

    @property
    def cost(self) -> str:
        """What took most of the time, in a word: queue, start, or of the boot disk, cpu, boot."""
        parts = {"queue": self.queued_s, "start": self.start_s, "boot": self.boot_s}
        longest = max(parts, key=parts.__getitem__)
        if longest != "boot" or max(self.cpu_wait_s, self.read_s) < self.boot_s / 2:
            return longest
        return "cpu" if self.cpu_wait_s >= self.read_s else "disk"


def boots(facts: Facts, outcome: Outcome, starts: Collection[str]) -> bool:
    """Check whether a guest boots because of what was done now.

    ``starts`` are the verbs that start one: what an interrupted run had done with them boots for longer already.
    """
    return outcome.did in BOOTS and not facts.done.intersection(starts)


@dataclass(slots=True)
class _Quiet:
    at_s: float
    counters: BootCounters
    since_s: float | None = None
    """When it has been quiet from; None: it is not."""


@dataclass(slots=True)
class QuietWatch:
    """Guests that boot, from look to look."""

    _seen: dict[str, _Quiet] = field(default_factory=dict)

    def look(self, signs: Mapping[str, BootSigns], at_s: float) -> dict[str, ReadyBy]:
        """Return which of the guests are quiet, and by which sign; those that are not among ``signs`` are forgotten."""
        before, self._seen = self._seen, {}
        found: dict[str, ReadyBy] = {}
        for uuid, each in signs.items():
            was, now = before.get(uuid), each.counters
            seen = self._seen[uuid] = _Quiet(at_s, now)
            if was is None or not _is_quiet(was, now, at_s):
                continue
            seen.since_s = was.at_s if was.since_s is None else was.since_s
            if now.sent:
                found[uuid] = "packet"
            elif at_s - seen.since_s >= QUIET_S:
                found[uuid] = "quiet"
        return found

    def quiet_s(self, uuid: str) -> float:
        """Return for how long a guest had been quiet at the last look."""
        seen = self._seen.get(uuid)
        return 0.0 if seen is None or seen.since_s is None else seen.at_s - seen.since_s


def _is_quiet(was: _Quiet, now: BootCounters, at_s: float) -> bool:
    before = was.counters
    is_same = now.run_s + now.delay_s >= before.run_s + before.delay_s and now.reads >= before.reads
    return is_same and now.run_s >= RAN_S and not is_at_work(before, now, at_s - was.at_s)


def shows(signs: BootSigns, by: ReadyBy | None, wanted: Ready | None) -> ReadyBy | None:
    """Return what shows that a guest is ready, given that it is quiet ``by``; None: nothing does yet."""
    if signs.agent and wanted != "quiet":
        return "agent"
    return None if signs.agent is False and wanted != "quiet" else by


@dataclass(frozen=True, slots=True)
class TimeToReady:
    """How long the guests that a run has started took until they were ready, in seconds since it began."""

    started: int
    """Guests that were started."""
    ready: int
    not_ready: int
    """Those that have not shown it."""
    first_s: float | None = None
    half_s: float | None = None
    all_s: float | None = None
    """None: not yet, or one of them has not shown it."""


def time_to_ready(found: Iterable[Readiness], *, started: int) -> TimeToReady:
    """Compute it of ``started`` guests, of which ``found`` are known."""
    known = list(found)
    times = sorted(each.at_s for each in known if each.by is not None)
    half = (started + 1) // 2
    return TimeToReady(
        started=started,
        ready=len(times),
        not_ready=len(known) - len(times),
        first_s=times[0] if times else None,
        half_s=times[half - 1] if 0 < half <= len(times) else None,
        all_s=times[-1] if times and len(times) == started else None,
    )
