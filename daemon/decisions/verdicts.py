"""Whether a guest that was started is reachable, judged by what it shows for a while after its boot.

The rules are read from top to bottom; the first that holds gives the verdict.  Nothing here is an outcome: no record is
changed by it, and no guest is touched.  No I/O, no clock, no logger.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

from bringup.daemon.decisions.activity import is_at_work
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

    last: VitalSigns | None = None
    """None: it was not read, or is not there."""
    io_error: GuestSign | None = None
    """The first I/O error that it had."""
    reboots: int = 0
    had_agent: bool = False
    """Since it has last restarted by itself."""
    is_agent_new: bool = False
    """It has connected since the last look but one: the last may have begun before."""
    sent_until: int = 0
    """Packets that it had sent when its agent was last known to be connected."""
    is_busy: bool = False
    """It has worked from the last look but one to the last."""
    is_another: bool = False
    """Its counters began again: somebody has stopped it and started it."""
    still_s: float = 0.0
    """For so long nothing of it had moved at the last look, not even what an idle guest does."""
    _has_connected: bool = False
    _at_s: float = 0.0
    _moved_at_s: float = 0.0

    def hear(self, sign: GuestSign) -> None:
        """Add an event of it."""
        match sign.kind:
            case "io_error":
                self.io_error = self.io_error or sign
            case "rebooted":
                self.reboots += 1
                self.had_agent = False
            case "agent_connected":
                self.had_agent = self._has_connected = True

    def see(self, signs: VitalSigns | None, at_s: float) -> None:
        """Add what it shows now; None: it is not there."""
        before, self.last = self.counters, signs
        now = self.counters
        # To a nanosecond: of an idle guest each wakeup is seen.  Without that count nobody knows whether it is still.
        moved = (now.run_s, now.delay_s, now.sent) != (before.run_s, before.delay_s, before.sent) or not now.delay_s
        self._moved_at_s = at_s if moved else self._moved_at_s
        self.still_s = at_s - self._moved_at_s
        self.is_busy = is_at_work(before, now, at_s - self._at_s)
        self.is_another = self.is_another or 0 < now.run_s < before.run_s
        self._at_s = at_s
        self.is_agent_new, self._has_connected = self._has_connected, False
        if self.has_agent:
            self.had_agent, self.sent_until = True, now.sent

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
        return self.had_agent and not self.has_agent and not self.is_agent_new

    @property
    def disk_problem(self) -> str:
        """What one of its disks reports, empty where none does."""
        if self.last is not None and self.last.disk_errors:
            return self.last.disk_errors[0]
        if self.io_error is None:
            return ""
        disks = {} if self.last is None else self.last.disks
        return f"{disks.get(self.io_error.disk, self.io_error.disk)}: {self.io_error.detail}"


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
    # Whoever has stopped or paused it, or started it again, knows.
    VerdictRule(lambda found: found.is_another or _state("stopped", "paused")(found), None, at_once=True),
    VerdictRule(
        lambda found: found.reboots >= LOOP,
        "broken",
        lambda found: f"it restarts in a loop, {found.reboots} times by now",
        at_once=True,
    ),
    VerdictRule(lambda found: found.last is None, None),
    VerdictRule(lambda found: found.still_s >= STILL_S, "broken", lambda _: "its vCPUs do not run"),
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


def judge(found: VitalEvidence, *, is_over: bool, may_boot: bool = False) -> tuple[bool, GuestVerdict | None]:
    """Return whether a guest can be judged by now, and its verdict; None: it is not judged.

    ``is_over``: it was watched for as long as it is to be; ``may_boot``: it may still boot, if it is at work.
    """
    for rule in RULES:
        if (is_over or rule.at_once) and rule.holds(found):
            if rule.word == "silent" and may_boot and found.is_busy:
                return False, None
            return True, None if rule.word is None else GuestVerdict(rule.word, rule.why(found))
    return is_over, None


def counts_of(verdicts: Iterable[GuestVerdict]) -> dict[str, int]:
    """Return how many guests have each verdict."""
    counts = Counter(each.word for each in verdicts)
    return {word: counts[word] for word in WORDS}


def verdicts_text(counts: dict[str, int]) -> str:
    """Return them in words, empty where there is none: ``11 reachable, 1 silent``."""
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)
