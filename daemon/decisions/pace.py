"""How many guests boot at once: as many as do not slow each other down.

Measured is how much slower guests boot than alone: their vCPUs wait for a CPU, their disks answer later than at best on
this host.  Few guests are started first; their number doubles for as long as nothing slows down, then grows by
quarters, and shrinks where boots take more than three times as long.  Two things do not count: what slows down even the
fewest guests, which is not their doing, and what slows down guests that hardly work.  While guests of a higher priority
boot, others are started only one by one, and only where that slows down nobody.  No I/O, no clock, no logger.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bringup.daemon.decisions.readiness import RAN_S
from bringup.drivers.base import BootCounters, MemoryPressure

FLOOR: Final = 2
"""Fewer do not slow each other down."""
START_AT_MOST: Final = 8
EVERY_S: Final = 2.0
"""How often the counters are read."""
EVERY_FAST_S: Final = 1.0
"""How often they are, for as long as nothing has slowed down, or guests hardly work."""
LOW: Final = 1.5
HIGH: Final = 3.0
SPARE: Final = 1.1
"""Below this, twice in a row, the host can start one more beside guests of a higher priority."""
AIM: Final = 2.0
"""A limit that is too high is lowered to as many guests as would be so many times slower than alone."""
SHRINK: Final = 0.5
"""And to this share of it at least."""
WORK: Final = 1 / 3
"""Where fewer vCPUs and reads a guest are under way at once on average, or fewer than the floor, guests hardly work."""
EVIDENCE_S: Final = 0.1
"""Time that guests have run or waited, below which nothing is known of them."""
FEWEST_READS: Final = 20
"""Reads between two looks, below which their latency says nothing."""
QUICKEST_S: Final = 1e-4
"""No disk counts as quicker: what comes from a cache would make each true read look slow."""
MEMORY_SOME: Final = 10.0
MEMORY_FULL: Final = 1.0
"""Percent of the last 10 s in which some, or all, waited for memory."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was seen at one look, and the limit since."""

    stretch: float | None
    """How many times slower than alone guests boot; None: none has run enough to tell."""
    booting: int
    limit: int
    brakes: bool = False
    """Memory is short: the limit is 1 for now."""


@dataclass(slots=True)
class PaceController:
    """Limit on how many are worked on at once, kept from look to look."""

    ceiling: int
    start: int = START_AT_MOST
    _limit: float = field(init=False)
    _is_fast: bool = field(init=False, default=True)
    """Nothing has slowed down yet: the limit doubles."""
    _before: dict[str, BootCounters] = field(init=False, default_factory=dict)
    _quickest_s: float | None = field(init=False, default=None)
    """Lowest mean latency of a read that was seen on this host."""
    _unavoidable: float = field(init=False, default=1.0)
    """How many times slower than alone the fewest guests boot: others use this host too."""
    _is_at_work: bool = field(init=False, default=False)
    """Guests boot that slow each other down, if anything does (``WORK``)."""
    _brakes: bool = field(init=False, default=False)
    _spared: int = field(init=False, default=0)
    """At how many looks in a row nothing was slowed down."""
    _has_spare: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        """Start low."""
        self._limit = self._lowest

    @property
    def _lowest(self) -> float:
        return float(max(1, min(self.start, self.ceiling)))

    @property
    def limit(self) -> int:
        """How many may be worked on at once."""
        return 1 if self._brakes else max(1, min(int(self._limit), self.ceiling))

    @property
    def every_s(self) -> float:
        """How long until the next look."""
        return EVERY_FAST_S if self._is_fast or not self._is_at_work else EVERY_S

    def take_spare(self) -> bool:
        """Check whether one more may be started beside guests of a higher priority, once for each look."""
        has_spare, self._has_spare = self._has_spare, False
        return has_spare

    def resize(self, ceiling: int) -> None:
        """Change the highest limit."""
        self.ceiling = ceiling
        self._limit = min(self._limit, float(ceiling))

    def passed(self) -> None:
        """Record that an instance needed no start while no guest boots: nothing is slowed down by more of these."""
        self._brakes = False
        self._limit = min(self._limit + 1, float(self.ceiling))

    def began(self) -> None:
        """Record that the first of some guests boots: what was learned of instances that need no start is not used."""
        self._limit = min(self._limit, self._lowest)

    def look(
        self, counters: Mapping[str, BootCounters], *, booting: int, used: int, memory: MemoryPressure | None = None
    ) -> Sighting:
        """Adapt the limit to the counters of the guests that boot; ``used`` is how many slots are."""
        self._brakes = memory is not None and (memory.some > MEMORY_SOME or memory.full > MEMORY_FULL)
        stretch = self._stretch(counters)
        slower = own = 1.0
        if stretch is not None:
            if used <= FLOOR:
                # Fewer do not boot at once: what slows these down is not each other.
                self._is_fast = self._is_fast or stretch > HIGH
                self._unavoidable = max(1.0, stretch)
            slower = stretch / self._unavoidable
            if self._is_at_work:
                # Else they have nothing to boot, or wait for a menu: the start of QEMU slows them for a moment.
                own = slower
            self._is_fast = self._is_fast and own < LOW
        if stretch is not None or _are_at_rest(counters, used):
            if own > HIGH and used <= self.limit:
                # Those beyond it keep their slots: the next look that counts is the one without them.
                self._limit = max(float(min(FLOOR, self.ceiling)), self._limit * max(SHRINK, AIM / own))
            elif own < LOW and used >= int(self._limit) and not self._brakes:
                have_most_run = len(counters) * 2 >= used
                grown = self._limit * 2 if self._is_fast and have_most_run else self._limit + max(1.0, self._limit / 4)
                self._limit = min(grown, float(self.ceiling))
        self._spared = self._spared + 1 if counters and slower < SPARE and not self._brakes else 0
        self._has_spare = self._spared >= 2  # noqa: PLR2004 - see SPARE
        return Sighting(stretch, booting, self.limit, self._brakes)

    def _stretch(self, counters: Mapping[str, BootCounters]) -> float | None:
        """Return how many times slower than alone guests have run since the last look."""
        run_s = delay_s = reads = read_s = 0.0
        for uuid, now in counters.items():
            before = self._before.get(uuid, BootCounters())
            if now.run_s < before.run_s or now.reads < before.reads:
                # It was started again meanwhile.
                before = BootCounters()
            run_s += now.run_s - before.run_s
            delay_s += now.delay_s - before.delay_s
            reads += now.reads - before.reads
            read_s += now.read_s - before.read_s
        self._before = dict(counters)
        if reads >= FEWEST_READS:
            latency_s = max(read_s / reads, QUICKEST_S)
            self._quickest_s = latency_s if self._quickest_s is None else min(self._quickest_s, latency_s)
        alone_s = run_s + min(read_s, reads * (self._quickest_s or 0.0))
        took_s = run_s + delay_s + read_s
        self._is_at_work = took_s / self.every_s >= max(FLOOR, WORK * len(counters))
        if took_s < EVIDENCE_S:
            return None
        return took_s / max(alone_s, QUICKEST_S)


def _are_at_rest(counters: Mapping[str, BootCounters], used: int) -> bool:
    """Check whether most of the slots are held by guests that have run, given that none runs or waits now."""
    return sum(each.run_s >= RAN_S for each in counters.values()) * 2 >= used > 0
