"""Log lines of a process that answers, which is not trusted: known events and keys, short, and few of them."""

from collections.abc import Mapping
from typing import Any, Final

from bringup.daemon.log_rate_limit import Sparing
from bringup.daemon.logs import get_logger
from bringup.daemon.text import printable

log = get_logger()

LEVELS: Final[Mapping[str, str]] = {
    "status.accept_failed": "warning",
    "status.request_failed": "error",
    "status.server_failed": "error",
    "status.server": "debug",
    "library.message": "debug",
    "library.messages_dropped": "debug",
}
"""The events that it may log, with the level, which it does not choose."""
KEYS: Final = ("error", "connections", "exception", "message", "library", "said", "count")
"""The keys of all of them."""
SHOWN: Final = 4000


class RelayedLog:
    """Log of one listener, for all of its processes."""

    def __init__(self, listener: str) -> None:
        """Start without a line."""
        self._listener = listener
        self._sparing = Sparing()

    def say(self, event: str, fields: Mapping[Any, Any]) -> None:
        """Log a line, a hundred a minute at most."""
        if not self._sparing.lets():
            return
        dropped = self._sparing.dropped()
        if dropped:
            log.warning("status.lines_dropped", listener=self._listener, count=dropped)
        getattr(log, LEVELS[event])(event, **{key: _shown(fields[key]) for key in KEYS if key in fields})


def _shown(value: Any) -> int | str:
    if isinstance(value, int) and abs(value) < 1 << 63:
        return value
    # A traceback has lines.
    return "\n".join(map(printable, str(value)[:SHOWN].split("\n")))
