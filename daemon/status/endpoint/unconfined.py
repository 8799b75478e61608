"""What could not be applied of the confinement of the processes that answer, and what that means.

They answer without it: who watches a host needs its answers most where something is odd about it.
"""

from collections.abc import Mapping
from typing import Final

from bringup.daemon.logs import get_logger
from bringup.daemon.text import printable, short

log = get_logger()

MEANS: Final[Mapping[str, str]] = {
    "no_new_privs": "a program that it begins may gain rights",
    "capabilities": "it keeps the capabilities of its user",
    "first_to_go": "where memory is used up, the daemon may be ended before it",
    "limits": "its memory and its descriptors are bounded by the unit or the container alone",
    "landlock": "who takes it over reads what the daemon's user may read, such as the state directory",
    "system_calls": "who takes it over connects to libvirt, begins programs and sends signals as the daemon's user may",
    "threads": "who takes it over begins threads, which count against the limit of the unit",
}
"""By what is lacking."""


def told(lacks: Mapping[str, str]) -> tuple[str, str]:
    """Give the reasons, and what that means, each in a line."""
    reasons = "; ".join(f"{name}: {short(printable(str(reason)))}" for name, reason in lacks.items())
    return reasons, "; ".join(MEANS[name] for name in lacks)


class Lacking:
    """What was said already: it is so in every process that answers, and each time one is started."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._said: set[str] = set()

    def note(self, lacks: Mapping[str, str]) -> None:
        """Log what was not said yet."""
        fresh = {name: reason for name, reason in lacks.items() if name not in self._said}
        if fresh:
            self._said |= fresh.keys()
            reason, means = told(fresh)
            log.warning("status.not_confined", lacks=list(fresh), reason=reason, means=means)
