"""Output of ``bringup run`` on a terminal.  Imported only there: it loads rich."""

from contextlib import AbstractAsyncContextManager

from bringup.daemon.service.process import Ending
from bringup.daemon.status.progress import Progress
from bringup.daemon.status.terminal import Terminal
from bringup.daemon.storage.outbox.outbox import Delivery

REPORT = {
    Delivery.ACKNOWLEDGED: "The scheduler acknowledged the report.",
    Delivery.REJECTED: "The scheduler rejected the report; it is kept in outbox/rejected.",
    Delivery.KEPT: "The scheduler has not acknowledged the report; it is in the outbox and will be sent again.",
    Delivery.IN_MEMORY: "The report could be neither sent nor written; it is lost when this process exits.",
    None: "Reporting is disabled (scheduler.transport = none).",
}


class TerminalPresenter:
    """Live progress during the run, a table after it."""

    def __init__(self, terminal: Terminal | None = None, *, lifecycle: bool = True) -> None:
        """Draw on standard output or the given terminal; ``lifecycle``: whether events are handled after the run."""
        self._terminal = terminal or Terminal()
        self._lifecycle = lifecycle

    def showing(self, progress: Progress) -> AbstractAsyncContextManager[None]:
        """Show the progress during the block."""
        return self._terminal.showing(progress)

    def show_ending(self, ending: Ending, *, stays: bool) -> None:
        """Show the outcomes and whether the report was delivered."""
        if ending.result is not None:
            self._terminal.show_summary(ending.result)
        self._terminal.say(REPORT[ending.delivery])
        if stays:
            events = "update power states" if self._lifecycle else "are not handled (driver.handle_lifecycle_events)"
            self._terminal.say(f"Ready: lifecycle events {events}. Stop with Ctrl-C.")
