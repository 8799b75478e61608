"""Whether a guest that was started is reachable, judged by what it shows for a while after its boot.

The rules are read from top to bottom; the first that holds gives the verdict.  Nothing here is an outcome: no record is
changed by it, and no guest is touched.  No I/O, no clock, no logger.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

from bringup.drivers.base import BootCounters, GuestSign, VitalSigns

Word = Literal["reachable", "silent", "broken"]
WORDS: Final = get_args(Word)
LOOP: Final = 4
"""A guest that has restarted by itself so many times since it was started does so in a loop."""
STILL_S: Final = 30.0
"""Even an idle guest does something in so long a time."""


@dataclass(frozen=True, slots=True)
class GuestVerdict:
    """What a guest was found to be."""

    word: Word
    why: str = ""
    """What shows it; of a reachable guest, what is wrong all the same."""

    @property
    def text(self) -> str:
        """In a few words: ``broken: disk vda: no space left``."""
        return f"{self.word}: {self.why}" if self.why else self.word


@dataclass(slots=True)
class VitalEvidence:
    """What is known of a guest since it was started."""

    first: VitalSigns | None = None
    last: VitalSigns | None = None
    """None: it was not read, or is not there."""
    seen_for_s: float = 0.0
    """From the first look to the last."""
    io_error: str = ""
    """The first I/O error that it had, with the disk."""
    reboots: int = 0
    had_agent: bool = False
    sent_until: int = 0
    """Packets that it had sent when its agent was last known to be connected."""
    _first_at_s: float = 0.0

    def hear(self, sign: GuestSign) -> None:
        """Add an event of it."""
        match sign.kind:
            case "io_error":
                self.io_error = self.io_error or sign.detail
            case "rebooted":
                self.reboots += 1
            case "agent_connected":
                self.had_agent = True

    def see(self, signs: VitalSigns | None, at_s: float) -> None:
        """Add what it shows now; None: it is not there."""
        if self.first is None:
            self.first, self._first_at_s = signs, at_s
        self.last, self.seen_for_s = signs, at_s - self._first_at_s
        if signs is not None and signs.boot is not None and signs.boot.agent:
            self.had_agent, self.sent_until = True, signs.boot.counters.sent

    @property
    def counters(self) -> BootCounters:
        """Its counters at the last look."""
        return BootCounters() if self.last is None or self.last.boot is None else self.last.boot.counters

    @property
    def has_agent(self) -> bool:
        """Its agent is connected."""
        return self.last is not None and self.last.boot is not None and self.last.boot.agent is True

    @property
    def lost_agent(self) -> bool:
        """Its agent was connected, and is not any more."""
        return self.had_agent and not self.has_agent

    @property
    def is_still(self) -> bool:
        """Nothing of it has moved from the first look to the last, not even what an idle guest does."""
        looks = [look.boot.counters for look in (self.first, self.last) if look is not None and look.boot is not None]
        return self.seen_for_s >= STILL_S and len(looks) > 1 and looks[0] == looks[1]

    @property
    def disk_problem(self) -> str:
        """What one of its disks reports, empty where none does."""
        reported = self.last.disk_errors if self.last is not None else ()
        return next(iter(reported), self.io_error)


def _state(*states: str) -> Callable[[VitalEvidence], bool]:
    return lambda found: found.last is not None and found.last.state in states


def _disk(found: VitalEvidence) -> str:
    return f"disk {found.disk_problem}" if found.disk_problem else "a disk: I/O error, and it is paused"


@dataclass(frozen=True, slots=True)
class VerdictRule:
    """One row: what must hold, and the verdict then."""

    holds: Callable[[VitalEvidence], bool]
    word: Word | None
    """None: it is not judged."""
    why: Callable[[VitalEvidence], str] = lambda _found: ""
    at_once: bool = False
    """Nothing that it may show later makes this better."""


RULES: Final = (
    VerdictRule(_state("crashed"), "broken", lambda _: "it has crashed", at_once=True),
    VerdictRule(lambda found: bool(found.disk_problem), "broken", _disk, at_once=True),
    VerdictRule(_state("io_error"), "broken", _disk, at_once=True),
    # Whoever has stopped or paused it knows.
    VerdictRule(_state("stopped", "paused"), None, at_once=True),
    VerdictRule(
        lambda found: found.reboots >= LOOP,
        "broken",
        lambda found: f"it restarts in a loop, {found.reboots} times by now",
        at_once=True,
    ),
    VerdictRule(lambda found: found.last is None, None),
    VerdictRule(lambda found: found.is_still, "broken", lambda _: "its vCPUs do not run"),
    VerdictRule(
        lambda found: found.lost_agent and found.counters.sent <= found.sent_until,
        "silent",
        lambda _: "its agent has disconnected, and it has sent no packet since",
    ),
    VerdictRule(
        lambda found: found.counters.sent > 0,
        "reachable",
        lambda found: "its agent has disconnected" if found.lost_agent else "",
    ),
    VerdictRule(lambda found: bool(_nics(found)), "silent", lambda _: "it has sent no packet"),
    VerdictRule(lambda found: found.has_agent, "reachable"),
    VerdictRule(lambda found: _nics(found) == 0, "silent", lambda _: "it has no NIC, and no agent is connected"),
)
"""Whatever else it shows, its packets cannot be counted: nothing is known."""


def _nics(found: VitalEvidence) -> int | None:
    return None if found.last is None else found.last.nics


def judge(found: VitalEvidence, *, is_over: bool) -> tuple[bool, GuestVerdict | None]:
    """Return whether a guest can be judged by now, and its verdict; None: it is not judged.

    ``is_over``: it was watched for as long as it is to be.
    """
    for rule in RULES:
        if (is_over or rule.at_once) and rule.holds(found):
            return True, None if rule.word is None else GuestVerdict(rule.word, rule.why(found))
    return is_over, None


def counts_of(verdicts: Iterable[GuestVerdict]) -> dict[str, int]:
    """Return how many guests have each verdict."""
    counts = Counter(each.word for each in verdicts)
    return {word: counts[word] for word in WORDS}


def verdicts_text(counts: dict[str, int]) -> str:
    """Return them in words, empty where there is none: ``11 reachable, 1 silent``."""
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)
