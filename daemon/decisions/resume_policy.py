"""Whether a guest that ran before may be brought back: what the host's settings, its boot and the instance say.

"Unknown" never starts a guest: a value that is not understood, an unknown downtime, a journal that was lost
each say no.  No I/O, no clock, no logger.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from bringup.daemon.decisions.policies import Guests, ResumePolicy
from bringup.daemon.decisions.rules import Withheld
from bringup.daemon.text import quoted
from bringup.daemon.time_spans import seconds_of

RARELY_FIRST: tuple[Guests, ...] = get_args(Guests)
METADATA_GUESTS = "bringup:resume"
METADATA_MAX_DOWNTIME = "bringup:max_downtime"


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What is known of this boot of the host."""

    settled: bool = False
    """A run was ended on it."""
    resumed: frozenset[str] = frozenset()
    """UUIDs of the instances that were brought back on it."""
    held: frozenset[str] = frozenset()
    """UUIDs of those that it held, or could not bring back: they have not had their turn."""
    memory_lost: bool = False
    """What was done on it before is not known."""
    asked: frozenset[str] = frozenset()
    """UUIDs that an operator has named: what is unknown does not keep them down."""
    downtime_s: float | None = None
    """Host downtime before it, in seconds; None: unknown."""
    at_most_s: float | None = None
    """Upper bound of the downtime, in seconds; None: unknown."""
    waits_for_clock: bool = False
    """The downtime is known as soon as the clock is set."""
    booted_at: float | None = None
    """When it began, in seconds since 1970; None: unknown."""


@dataclass(frozen=True, slots=True)
class Resuming:
    """The policy, and the boot that it is applied to."""

    policy: ResumePolicy = field(default_factory=ResumePolicy)
    boot: Boot = field(default_factory=Boot)

    def of(self, uuid: str, metadata: Mapping[str, str]) -> tuple[bool, Withheld | None]:
        """Check whether the guest of an instance may be brought back and, where only circumstances forbid it, which."""
        try:
            guests, max_downtime_s = self._asked(metadata)
        except ValueError:
            # What cannot be read asks for nothing.
            return False, None if self.policy.guests == "never" else Withheld.METADATA
        if guests == "never":
            return False, None if self.policy.guests == "never" else Withheld.METADATA
        withheld = self._withheld(uuid, guests, max_downtime_s)
        return withheld is None, withheld

    def problem_with(self, metadata: Mapping[str, str]) -> str:
        """Return which value of an instance's metadata cannot be read, and what would be right; empty: none."""
        found = []
        if METADATA_GUESTS in metadata and metadata[METADATA_GUESTS] not in RARELY_FIRST:
            given = quoted(metadata[METADATA_GUESTS])
            found.append(f"{METADATA_GUESTS} is {given}: give one of {', '.join(RARELY_FIRST)}")
        if METADATA_MAX_DOWNTIME in metadata:
            try:
                seconds_of(metadata[METADATA_MAX_DOWNTIME])
            except ValueError:
                given = quoted(metadata[METADATA_MAX_DOWNTIME])
                found.append(f"{METADATA_MAX_DOWNTIME} is {given}: give a time such as 90s, 5min or 2h; 0 is no limit")
        return "; ".join(found)

    def _asked(self, metadata: Mapping[str, str]) -> tuple[Guests, float]:
        """Put what the host and the instance say together.  Raises ``ValueError``."""
        guests, max_downtime_s = self.policy.guests, self.policy.max_downtime
        if self.policy.instance_policy == "ignored":
            return guests, max_downtime_s
        if METADATA_GUESTS in metadata:
            # tuple.index raises ValueError for a word that is none.
            wanted = RARELY_FIRST[RARELY_FIRST.index(metadata[METADATA_GUESTS])]
            guests = wanted if self.policy.instance_policy == "decides" else min(guests, wanted, key=RARELY_FIRST.index)
        if METADATA_MAX_DOWNTIME in metadata:
            given = seconds_of(metadata[METADATA_MAX_DOWNTIME])
            if self.policy.instance_policy == "decides":
                max_downtime_s = given
            elif given:
                max_downtime_s = min(given, max_downtime_s or given)
        return guests, max_downtime_s

    def _withheld(self, uuid: str, guests: Guests, max_downtime_s: float) -> Withheld | None:
        boot = self.boot
        had_its_turn = uuid in boot.resumed or (boot.settled and uuid not in boot.held)
        if guests == "on_host_boot" and had_its_turn:
            return Withheld.ONCE_A_BOOT
        withheld = Withheld.UNKNOWN if guests == "on_host_boot" and boot.memory_lost else None
        if withheld is None and max_downtime_s:
            withheld = _away_too_long(boot, max_downtime_s)
        return None if withheld is Withheld.UNKNOWN and uuid in boot.asked else withheld


def _away_too_long(boot: Boot, max_downtime_s: float) -> Withheld | None:
    if boot.waits_for_clock:
        return Withheld.CLOCK
    if boot.downtime_s is not None:
        return Withheld.AWAY_TOO_LONG if boot.downtime_s > max_downtime_s else None
    if boot.at_most_s is not None and boot.at_most_s <= max_downtime_s:
        return None
    return Withheld.UNKNOWN
