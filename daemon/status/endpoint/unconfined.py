"""Parts of the confinement of the processes that answer that could not be applied, and what that means.

They answer without it: monitoring needs their answers most where a host is unusual.
"""

from collections.abc import Mapping
from typing import Final

from bringup.daemon.logs import get_logger
from bringup.daemon.text import printable, short

log = get_logger()

MEANS: Final[Mapping[str, str]] = {
    "no_new_privs": "a program that it starts may gain privileges",
    "capabilities": "it keeps the capabilities of its user",
    "first_to_go": "if memory runs out, the daemon may be killed before it",
    "limits": "its memory and descriptors are limited by the unit or the container alone",
    "landlock": "an attacker who controls it reads what the daemon's user may read, such as the state directory",
    "system_calls": "an attacker who controls it connects to libvirt, starts programs and sends signals",
    "threads": "an attacker who controls it starts threads, which count against the limit of the unit",
}
"""By what is missing."""


def describe(lacks: Mapping[str, str]) -> tuple[str, str]:
    """Return the reasons, and what that means, each in a line."""
    reasons = "; ".join(f"{name}: {short(printable(str(reason)))}" for name, reason in lacks.items())
    return reasons, "; ".join(MEANS[name] for name in lacks)


class Lacking:
    """What was logged already: it is the same in every process that answers, and each time one is started."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._logged: set[str] = set()

    def note(self, lacks: Mapping[str, str]) -> None:
        """Log what was not logged yet."""
        fresh = {name: reason for name, reason in lacks.items() if name not in self._logged}
        if fresh:
            self._logged |= fresh.keys()
            reason, means = describe(fresh)
            log.warning("status.not_confined", lacks=list(fresh), reason=reason, means=means)
