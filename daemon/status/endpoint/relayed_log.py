"""What a process that answers has to log, read as a stranger's words: known events and keys, short, and few of them."""

from collections.abc import Mapping
from typing import Any, Final

from bringup.daemon.log_rate_limit import Sparing
from bringup.daemon.logs import get_logger
from bringup.daemon.text import printable

log = get_logger()

LEVELS: Final[Mapping[str, str]] = {
    "status.not_accepted": "warning",
    "status.request_failed": "error",
    "status.server_failed": "error",
    "status.server": "debug",
    "library.said": "debug",
    "library.left_out": "debug",
}
"""What it may log; the level is not for it to choose."""
KEYS: Final = ("error", "connections", "exception", "message", "library", "said", "count")
"""The keys of all of them."""
SHOWN: Final = 4000


class RelayedLog:
    """The log of one listener, whichever process answers there."""

    def __init__(self, listener: str) -> None:
        """Begin with nothing said."""
        self._listener = listener
        self._sparing = Sparing()

    def say(self, event: str, fields: Mapping[Any, Any]) -> None:
        """Log it, a hundred times a minute at most."""
        if not self._sparing.lets():
            return
        left_out = self._sparing.left_out()
        if left_out:
            log.warning("status.left_out", listener=self._listener, count=left_out)
        getattr(log, LEVELS[event])(event, **{key: _shown(fields[key]) for key in KEYS if key in fields})


def _shown(value: Any) -> int | str:
    if isinstance(value, int) and abs(value) < 1 << 63:
        return value
    # A traceback has lines.
    return "\n".join(map(printable, str(value)[:SHOWN].split("\n")))
