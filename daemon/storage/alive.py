"""File with the last time that this host was known to be up: on this boot, and on the boots before it.

It stands beside the journal and is not part of it: it outlives a damaged one, and has what a journal has not: which
clock was used, and whether it was written continuously.  If no daemon stays, a timer of systemd touches
:data:`TOUCHED` (``systemd/bringup-alive.timer``).
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bringup.daemon.decisions.downtime import Downtime, Up, judge
from bringup.daemon.logs import get_logger
from bringup.daemon.storage.boot import CurrentBoot
from bringup.daemon.storage.files import write_durably
from bringup.drivers.files import read_file

log = get_logger()

FILE = "alive.json"
FORMAT = "bringup.alive/1"
TOUCHED = "alive"
"""File that may be touched every minute while the host is up."""
KEPT_BOOTS = 4


def since_boot_s() -> float:
    """Read the clock that starts with the boot, in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive:
    """Times at which one host was up.  Its methods block: to write, and to query whether the clock is set."""

    directory: Path
    boot: CurrentBoot
    is_clock_set: Callable[[], bool]
    trusts_clock: bool = False
    now: Callable[[], float] = time.time
    boot_s: Callable[[], float] = since_boot_s

    def began_at(self) -> float | None:
        """Return when this boot began, in seconds since 1970; None if the clock is not set, or it is unknown."""
        return self.boot.began_at() if self.trusts_clock or self._was_set(self._ups()) else None

    def downtime(self) -> Downtime | None:
        """Return how long the host was down before this boot; None if no other boot is in the file."""
        ups = self._ups()
        if all(up.boot_id == self.boot.boot_id for up in ups):
            return None
        return judge(
            ups,
            self.boot.boot_id,
            now=self.now(),
            boot_s=self.boot_s(),
            is_clock_set=self._was_set(ups),
            trusts_clock=self.trusts_clock,
        )

    def write(self, *, is_kept: bool) -> None:
        """Write that the host is up.

        ``is_kept``: it will be written repeatedly, as long as it is up.
        """
        ups = self._ups()
        known = [up for up in ups if up.boot_id == self.boot.boot_id]
        first_boot_s = known[0].first_boot_s if known else self.boot_s()
        up = Up(
            boot_id=self.boot.boot_id,
            at=self.now(),
            is_clock_set=self._was_set(known),
            is_kept=is_kept,
            first_boot_s=first_boot_s,
        )
        others = [each for each in ups if each.boot_id != self.boot.boot_id]
        kept = [*others, up][-KEPT_BOOTS:]
        document = {"format": FORMAT, "boots": [asdict(each) for each in kept]}
        data = (json.dumps(document, indent=1) + "\n").encode()
        try:
            write_durably(self.directory / FILE, data, draft=self.directory / f".{FILE}")
        except OSError as error:
            # A host comes back on a full disk too.
            log.warning("alive.not_written", error=str(error))

    def _was_set(self, ups: Sequence[Up]) -> bool:
        """Check whether the clock was set on this boot; queried until it was."""
        return any(up.is_clock_set for up in ups if up.boot_id == self.boot.boot_id) or self.is_clock_set()

    def _ups(self) -> Sequence[Up]:
        """Read the file; a touch since the last entry of an earlier boot counts as an entry."""
        ups = read(self.directory / FILE)
        if not ups or ups[-1].boot_id == self.boot.boot_id:
            return ups
        with suppress(OSError):
            touched = (self.directory / TOUCHED).stat().st_mtime
            if touched > ups[-1].at:
                return [*ups[:-1], replace(ups[-1], at=touched, is_kept=True)]
        return ups


def read(path: Path) -> list[Up]:
    """Read the file, the latest boot last; empty if it cannot be read."""
    try:
        document: Any = json.loads(read_file(path))
        if document["format"] != FORMAT:
            return []
        return [_up(each) for each in document["boots"]]
    except FileNotFoundError:
        return []
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        log.warning("alive.not_read", error=f"{type(error).__name__}: {error}")
        return []


def _seconds(value: Any) -> float:
    seconds = float(value)
    # JSON can spell NaN and infinity, and no time compares with them.
    if not math.isfinite(seconds):
        raise ValueError("not a time")
    return seconds


def _up(document: Any) -> Up:
    return Up(
        boot_id=str(document["boot_id"]),
        at=_seconds(document["at"]),
        is_clock_set=document["is_clock_set"] is True,
        is_kept=document["is_kept"] is True,
        first_boot_s=_seconds(document["first_boot_s"]),
    )
