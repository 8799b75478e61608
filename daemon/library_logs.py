"""Messages of libraries (log lines, Python's warnings, errors of clean-up): only in the log, at level debug.

A line of aiormq between two lines of JSON would break them.  What matters is raised as an exception, with its own
text.
"""

import logging
import sys
from contextlib import suppress

from bringup.daemon.log_rate_limit import LogRateLimit
from bringup.daemon.text import printable, without_login

LONGEST = 500


class _Keeping(logging.Handler):
    """Handler of all records that a library's logger has no handler for, with a rate limit."""

    def __init__(self) -> None:
        super().__init__()
        self._limit = LogRateLimit()

    def emit(self, record: logging.LogRecord) -> None:
        # No message of a library may stop the work.
        with suppress(Exception):
            import structlog

            from bringup.daemon.logs import get_logger

            if not structlog.is_configured():
                return  # there is no log yet
            if not self._limit.allows():
                return
            log = get_logger()
            dropped = self._limit.dropped()
            if dropped:
                log.debug("library.messages_dropped", count=dropped)
            message = without_login(printable(record.getMessage()))[:LONGEST]
            log.debug("library.message", library=record.name, level=record.levelname.lower(), message=message)


def _unraisable(found: "sys.UnraisableHookArgs") -> None:
    logging.getLogger("python").warning("%s: %s", type(found.exc_value).__name__, found.exc_value)


def keep_out() -> None:
    """Install the handler and the hooks, for the life of the process."""
    logging.getLogger().addHandler(_Keeping())
    logging.captureWarnings(capture=True)
    sys.unraisablehook = _unraisable
