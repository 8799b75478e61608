"""Keeps what libraries say out of what this program says: their log lines, Python's warnings, errors while cleaning up.

A line of aiormq between two lines of JSON is a line too many.  What they say is in the log at level debug; what matters
of it comes back as an exception, which has its sentence.
"""

import logging
import sys
from contextlib import suppress

from bringup.daemon.log_rate_limit import Sparing
from bringup.daemon.text import printable, without_login

LONGEST = 500


class _Keeping(logging.Handler):
    """Takes every record that no logger of a library has a handler for; not more than anybody would read."""

    def __init__(self) -> None:
        super().__init__()
        self._sparing = Sparing()

    def emit(self, record: logging.LogRecord) -> None:
        # Nothing that a library says may end the work.
        with suppress(Exception):
            import structlog

            from bringup.daemon.logs import get_logger

            if not structlog.is_configured():
                return  # there is no log, and nobody wants to know
            if not self._sparing.lets():
                return
            log = get_logger()
            dropped = self._sparing.dropped()
            if dropped:
                log.debug("library.messages_dropped", count=dropped)
            said = without_login(printable(record.getMessage()))[:LONGEST]
            log.debug("library.message", library=record.name, level=record.levelname.lower(), said=said)


def _unraisable(found: "sys.UnraisableHookArgs") -> None:
    logging.getLogger("python").warning("%s: %s", type(found.exc_value).__name__, found.exc_value)


def keep_out() -> None:
    """Begin; for the life of the process."""
    logging.getLogger().addHandler(_Keeping())
    logging.captureWarnings(capture=True)
    sys.unraisablehook = _unraisable
