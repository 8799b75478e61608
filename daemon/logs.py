"""Logs: constant events, facts as keys; JSON lines where nobody watches, readable lines where somebody does."""

import io
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Literal, TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor, WrappedLogger

SECRET_KEYS = frozenset({"authorization", "password", "secret", "token", "x-auth-token", "x-subject-token"})
HIDDEN = "***"


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
        """Tell whether it is a terminal."""
        return sys.stdout.isatty()


def get_logger() -> FilteringBoundLogger:
    """Give a logger; it takes on its settings when it is first used."""
    return cast("FilteringBoundLogger", structlog.get_logger())


def configure(
    *, level: str, style: Literal["auto", "json", "console"], stream: TextIO | io.TextIOBase | None = None
) -> None:
    """Say where log lines go and how they look; ``auto`` is ``console`` on a terminal, else ``json``."""
    target = stream or sys.stdout
    console = style == "console" or (style == "auto" and target.isatty())
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=target.isatty()) if console else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _hide_secrets,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Dropping(target))),
        cache_logger_on_first_use=False,
    )


def _hide_secrets(_logger: WrappedLogger, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide values of keys that name a secret: a second line of defence, none is ever passed."""
    for key, value in event.items():
        if key.lower() in SECRET_KEYS:
            event[key] = HIDDEN
        elif isinstance(value, Mapping):  # headers
            event[key] = {name: HIDDEN if str(name).lower() in SECRET_KEYS else held for name, held in value.items()}
    return event
