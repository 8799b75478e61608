"""Protocol of a transport to a scheduler.

::

    TransportError
      NotAcknowledged   the report is kept and sent again
      Rejected          the report is set aside: the receiver will never accept it
"""

from dataclasses import dataclass
from typing import Protocol

from bringup.daemon.storage.outbox.report import Report


@dataclass(frozen=True, slots=True)
class Pending:
    """Counts of reports that were not acknowledged yet."""

    count: int = 0
    oldest_s: float | None = None
    """Age of the oldest one in seconds; None if none waits, or none could be written to the disk."""
    retries: int = 0
    """Attempts of this process that were not acknowledged."""


class TransportError(Exception):
    """A report did not arrive."""


class NotAcknowledged(TransportError):
    """The receiver may or may not have the report; it may accept the same report later."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        """Store the number of seconds that the receiver requests to wait; None if it does not."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Rejected(TransportError):
    """The receiver will never accept this report."""


class Transport(Protocol):
    """Connection to the scheduler.  Sets its own deadline; a repeat of a report is harmless to its receiver."""

    async def send(self, report: Report) -> None:
        """Send a report; on return it is acknowledged.

        :raises NotAcknowledged: try again.
        :raises Rejected: never try this one again.
        """
