"""What a transport to a scheduler must do.

::

    TransportError
      NotAcknowledged   the report is kept and sent again
      Rejected          the report is set aside: the receiver will never take it
"""

from dataclasses import dataclass
from typing import Protocol

from bringup.daemon.storage.outbox.report import Report


@dataclass(frozen=True, slots=True)
class Pending:
    """Reports that were not acknowledged yet."""

    count: int = 0
    oldest_s: float | None = None
    """How long the oldest of them has waited; None where none waits, or none could be written to the disk."""
    retries: int = 0
    """Attempts of this process that were not acknowledged."""


class TransportError(Exception):
    """A report did not arrive."""


class NotAcknowledged(TransportError):
    """The receiver may or may not have the report; the same report may be taken later."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        """Take how many seconds the receiver asks to wait, None where it does not say."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Rejected(TransportError):
    """The receiver will never take this report."""


class Transport(Protocol):
    """A way to the scheduler.  Sets its own deadline; a repeat of a report is harmless to its receiver."""

    async def send(self, report: Report) -> None:
        """Send a report; on return it is acknowledged.

        :raises NotAcknowledged: try again.
        :raises Rejected: never try this one again.
        """
