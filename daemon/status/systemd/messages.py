"""Messages to the service manager: a pure function of the progress of the run and of the time.

* Before the host is back, ``EXTEND_TIMEOUT_USEC=`` while the run proceeds: while the last end of an action is not
  longer ago than the deadlines of its phase allow.  A slow run, which runs into its own deadlines, lives; systemd ends
  one in which nothing ends any more, and a process that cannot even send.  (In small portions: systemd never revokes an
  extension.)
* ``READY=1`` once, when the host is back.
* From then on ``WATCHDOG=1``, but not while something is overdue: a running event loop does not prove that work
  proceeds.  (Before, systemd's watchdog does not run, and a ping would start it.)
* ``STATUS=`` whenever its text changes.

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
"""How many pings fit into the time until the next must arrive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What does not change while the process lives."""

    patience_s: Mapping[str, float]
    """By phase: how long it may take until something ends."""
    extension_s: float
    """How much time is requested at once."""
    watchdog_s: float | None = None
    """How soon the manager expects the next ping; None: it expects none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What is known now."""

    at: float
    """Monotonic seconds."""
    snapshot: Snapshot
    is_back: bool = False
    """The host is back, and the daemon stays."""
    overdue: str | None = None
    """Work in the background that should have made progress by now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagerState:
    """What was sent to the manager."""

    is_ready: bool = False
    extended_at: float = -inf
    sign_at: float = -inf
    status: str = ""


def due(moment: Moment, sent: ManagerState, rules: Rules) -> tuple[tuple[str, ...], ManagerState]:
    """Return the lines to send now, if any, and the state once they have been accepted."""
    lines: list[str] = []
    is_ready = sent.is_ready or moment.is_back
    if is_ready and not sent.is_ready:
        lines.append("READY=1")
    stuck = why_stuck(moment, rules)
    extended_at, sign_at = sent.extended_at, sent.sign_at
    if not is_ready and stuck is None and moment.at - extended_at >= rules.extension_s / SIGNS:
        lines.append(extension(rules.extension_s))
        extended_at = moment.at
    wanted = rules.watchdog_s is not None and moment.at - sign_at >= rules.watchdog_s / SIGNS
    if is_ready and stuck is None and wanted:
        lines.append("WATCHDOG=1")
        sign_at = moment.at
    status = f"stuck: {stuck}" if stuck else status_text(moment.snapshot, is_ready=is_ready)
    if status != sent.status:
        lines.append(status_line(status))
    return tuple(lines), ManagerState(is_ready=is_ready, extended_at=extended_at, sign_at=sign_at, status=status)


def why_stuck(moment: Moment, rules: Rules) -> str | None:
    """Return what makes no progress though its deadline has passed; None where all does."""
    if moment.overdue is not None:
        return f"{moment.overdue} is overdue"
    snapshot, slowest = moment.snapshot, moment.snapshot.slowest
    # A daemon that stays has nothing to end, unless held instances are released, maybe after days.
    for_s = snapshot.idle_s if slowest is None else min(snapshot.idle_s, slowest.age_s)
    if (moment.is_back and slowest is None) or for_s <= _patience_s(snapshot, rules):
        return None
    doing = f", {slowest.verb} of {labelled(slowest.uuid, slowest.name)}" if slowest else ""
    return f"nothing has ended for {in_words(for_s)} in phase {snapshot.phase}{doing}"


def _patience_s(snapshot: Snapshot, rules: Rules) -> float:
    return rules.patience_s.get(snapshot.phase, max(rules.patience_s.values()))


def status_text(snapshot: Snapshot, *, is_ready: bool) -> str:
    """Return the progress as text, for ``systemctl status``."""
    text = headline(snapshot)
    return f"ready, {text}" if is_ready else text


def status_line(text: str) -> str:
    """Return ``STATUS=``: one line, whatever is in the text, because each further line would be an assignment too."""
    words = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return f"STATUS={words if len(words) <= LONGEST_STATUS else words[:LONGEST_STATUS] + '…'}"


def extension(for_s: float) -> str:
    """Return the line that extends the timeout."""
    return f"EXTEND_TIMEOUT_USEC={round(for_s * MICROSECONDS)}"


def stopping(for_s: float, *, stuck: bool) -> tuple[str, ...]:
    """Return the lines that report the stop, within ``for_s`` seconds, or as the unit sets if it is stuck."""
    lines = ("STOPPING=1", status_line("stopping: results are being saved and reported"))
    return lines if stuck else (*lines, extension(for_s))


def reloading(at: float) -> tuple[str, ...]:
    """Return the lines that report a reload of the settings, from ``at`` (monotonic seconds) on."""
    # With it, systemd 253 and newer know which reload the next READY=1 ends (Type=notify-reload).
    return "RELOADING=1", f"MONOTONIC_USEC={int(at * MICROSECONDS)}", status_line("reading the settings again")
