"""What to tell the service manager, and when: a pure function of how far the run is and of the time.

* Before the host is back, ``EXTEND_TIMEOUT_USEC=`` while the run gets on: while something has ended not longer ago
  than the deadlines of its phase allow.  A slow run, which runs into its own deadlines, lives; one in which nothing
  ends any more is ended by systemd, and so is a process that does not even get to say so.  (In small portions: systemd
  never takes an extension back.)
* ``READY=1`` once, when the host is back.
* From then on ``WATCHDOG=1``, but not while something is overdue: an event loop that turns is no work that goes on.
  (Before, systemd's watchdog does not run, and a sign of life would start it.)
* ``STATUS=`` whenever it reads differently.

No I/O, no clock, no logger.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from bringup.daemon.status.snapshot import Snapshot, headline
from bringup.daemon.text import labelled
from bringup.daemon.time_spans import in_words

MICROSECONDS = 1_000_000
LONGEST_STATUS = 500
"""Characters: a whole message may have 4096 bytes."""
SIGNS = 3
"""How many signs of life fit into the time until the next must come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What does not change while the process lives."""

    patience_s: Mapping[str, float]
    """By phase: for how long nothing need end in it."""
    extension_s: float
    """How much time is asked for at once."""
    watchdog_s: float | None = None
    """How soon the manager wants the next sign of life; None: it wants none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What is known now."""

    at: float
    """Monotonic seconds."""
    snapshot: Snapshot
    is_back: bool = False
    """The host is back, and the daemon stays."""
    overdue: str | None = None
    """What of the work in the background should have shown by now that it goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagerState:
    """What the manager has been told."""

    is_ready: bool = False
    extended_at: float = -inf
    sign_at: float = -inf
    status: str = ""


def due(moment: Moment, told: ManagerState, rules: Rules) -> tuple[tuple[str, ...], ManagerState]:
    """Give the lines to send now, if any, and what is told once they have been taken."""
    lines: list[str] = []
    is_ready = told.is_ready or moment.is_back
    if is_ready and not told.is_ready:
        lines.append("READY=1")
    stuck = why_stuck(moment, rules)
    extended_at, sign_at = told.extended_at, told.sign_at
    if not is_ready and stuck is None and moment.at - extended_at >= rules.extension_s / SIGNS:
        lines.append(extension(rules.extension_s))
        extended_at = moment.at
    wanted = rules.watchdog_s is not None and moment.at - sign_at >= rules.watchdog_s / SIGNS
    if is_ready and stuck is None and wanted:
        lines.append("WATCHDOG=1")
        sign_at = moment.at
    status = f"stuck: {stuck}" if stuck else status_text(moment.snapshot, is_ready=is_ready)
    if status != told.status:
        lines.append(status_line(status))
    return tuple(lines), ManagerState(is_ready=is_ready, extended_at=extended_at, sign_at=sign_at, status=status)


def why_stuck(moment: Moment, rules: Rules) -> str | None:
    """Say what does not go on though its own deadline has passed; None where all does."""
    if moment.overdue is not None:
        return f"{moment.overdue} is overdue"
    snapshot, slowest = moment.snapshot, moment.snapshot.slowest
    # A daemon that stays has nothing to end, unless instances that were held are let go on, maybe after days.
    for_s = snapshot.idle_s if slowest is None else min(snapshot.idle_s, slowest.age_s)
    if (moment.is_back and slowest is None) or for_s <= _patience_s(snapshot, rules):
        return None
    doing = f", {slowest.verb} of {labelled(slowest.uuid, slowest.name)}" if slowest else ""
    return f"nothing has ended for {in_words(for_s)} in phase {snapshot.phase}{doing}"


def _patience_s(snapshot: Snapshot, rules: Rules) -> float:
    return rules.patience_s.get(snapshot.phase, max(rules.patience_s.values()))


def status_text(snapshot: Snapshot, *, is_ready: bool) -> str:
    """Say how far it is, for ``systemctl status``."""
    text = headline(snapshot)
    return f"ready, {text}" if is_ready else text


def status_line(text: str) -> str:
    """Write ``STATUS=``: one line, whatever is in the text, because each further line would be an assignment too."""
    words = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return f"STATUS={words if len(words) <= LONGEST_STATUS else words[:LONGEST_STATUS] + '…'}"


def extension(for_s: float) -> str:
    """Write by when the next message comes, or the time is up."""
    return f"EXTEND_TIMEOUT_USEC={round(for_s * MICROSECONDS)}"


def stopping(for_s: float, *, stuck: bool) -> tuple[str, ...]:
    """Give the lines that say that it stops, within ``for_s`` seconds, or as the unit says if it is stuck."""
    lines = ("STOPPING=1", status_line("stopping: what is known is written down and reported"))
    return lines if stuck else (*lines, extension(for_s))


def reloading(at: float) -> tuple[str, ...]:
    """Give the lines that say that it reads its settings again, from ``at`` (monotonic seconds) on."""
    # With it, systemd 253 and newer know which reload it is that the next READY=1 ends (Type=notify-reload).
    return "RELOADING=1", f"MONOTONIC_USEC={int(at * MICROSECONDS)}", status_line("reading the settings again")
