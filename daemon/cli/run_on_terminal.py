"""How ``bringup run`` looks to a person at a terminal."""

from contextlib import AbstractAsyncContextManager

from bringup.daemon.service.process import Ending
from bringup.daemon.status.progress import Progress
from bringup.daemon.status.terminal import Terminal
from bringup.daemon.storage.outbox.outbox import Delivery

REPORT = {
    Delivery.ACKNOWLEDGED: "The scheduler has acknowledged the report.",
    Delivery.REJECTED: "The scheduler will not take the report; it is set aside in outbox/rejected.",
    Delivery.KEPT: "The scheduler has not acknowledged the report; it is in the outbox and will be sent again.",
    Delivery.IN_MEMORY: "The report could be neither sent nor written; it is lost when this process ends.",
    None: "No report was made: scheduler.transport is none.",
}


class Watched:
    """Progress while it runs, a table when it is over."""

    def __init__(self, terminal: Terminal | None = None, *, lifecycle: bool = True) -> None:
        """Draw on standard output, or on the terminal given; ``lifecycle``: whether events are handled from now on."""
        self._terminal = terminal or Terminal()
        self._lifecycle = lifecycle

    def showing(self, progress: Progress) -> AbstractAsyncContextManager[None]:
        """Show how far it is, for as long as the block lasts."""
        return self._terminal.showing(progress)

    def show_ending(self, ending: Ending, *, stays: bool) -> None:
        """Show what came of it."""
        if ending.result is not None:
            self._terminal.show_summary(ending.result)
        self._terminal.say(REPORT[ending.delivery])
        if stays:
            events = "keep power states true" if self._lifecycle else "are not handled (driver.handle_lifecycle_events)"
            self._terminal.say(f"Ready: lifecycle events {events}. Ctrl-C ends.")
