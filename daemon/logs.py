"""Logs: constant events, facts as keys.

JSON lines where nobody watches, readable lines where somebody does, entries with fields as a service of systemd.
"""

import io
import os
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Literal, TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor, WrappedLogger

from bringup.daemon import journald

SECRET_KEYS = frozenset({"authorization", "password", "secret", "token", "x-auth-token", "x-subject-token"})
HIDDEN = "***"
_STDOUT = 1


class _Dropping:
    """A stream that drops what it cannot write: a full disk or a reader that went away must not end the work."""

    def __init__(self, stream: TextIO | io.TextIOBase) -> None:
        self._stream = stream

    def write(self, text: str, /) -> int:
        with suppress(OSError, ValueError):  # ValueError: it was closed
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


class CurrentStdout(io.TextIOBase):
    """Whatever ``sys.stdout`` is at the moment: a live view takes its place, and lines must stand above it."""

    def write(self, text: str, /) -> int:
        """Write to it."""
        return sys.stdout.write(text)

    def flush(self) -> None:
        """Flush it."""
        sys.stdout.flush()

    def isatty(self) -> bool:
        """Check whether it is a terminal."""
        return sys.stdout.isatty()


def get_logger() -> FilteringBoundLogger:
    """Return a logger; it reads the configuration at its first use."""
    return cast("FilteringBoundLogger", structlog.get_logger())


Style = Literal["auto", "json", "console", "journal"]


def configure(*, level: str, style: Style, stream: TextIO | io.TextIOBase | None = None) -> None:
    """Configure where log lines go and how they look.

    ``auto`` is ``journal`` where standard output is connected to systemd's journal, ``console`` on a terminal, else
    ``json``.  Where there is no journal, ``journal`` is ``json``.
    """
    target = stream or sys.stdout
    sender = _journal(style, stream)
    console = style == "console" or (style == "auto" and target.isatty())
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=target.isatty()) if console else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            *([] if sender is not None else [stamp]),
            _hide_secrets,
            structlog.processors.format_exc_info,
            journald.entry if sender is not None else renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=(lambda *_: sender)
        if sender is not None
        else structlog.PrintLoggerFactory(cast("TextIO", _Dropping(target))),
        cache_logger_on_first_use=False,
    )


def _journal(style: Style, stream: TextIO | io.TextIOBase | None) -> journald.JournalSender | None:
    """Connect to the journal, where lines are to go there."""
    by_itself = style == "auto" and stream is None and journald.is_stream_of(os.environ, _STDOUT)
    if style != "journal" and not by_itself:
        return None
    try:
        return journald.JournalSender()
    except OSError:
        return None


def set_level(level: str) -> None:
    """Log from this level on, from now on."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))


def _hide_secrets(_logger: WrappedLogger, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide values of keys that name a secret: a second line of defence, none is ever passed."""
    for key, value in event.items():
        if key.lower() in SECRET_KEYS:
            event[key] = HIDDEN
        elif isinstance(value, Mapping):  # headers
            event[key] = {name: HIDDEN if str(name).lower() in SECRET_KEYS else held for name, held in value.items()}
    return event
