"""Fan-out of run events: an observer that fails hurts neither the others nor the run."""

from bringup.daemon.decisions.run_events import Observer, RunEvent
from bringup.daemon.logs import get_logger

log = get_logger()


def fan_out(*observers: Observer) -> Observer:
    """Return an observer that notifies all of them, in the order given."""

    def notify(event: RunEvent) -> None:
        for observer in observers:
            try:
                observer(event)
            except Exception:
                log.exception("observer.failed", observer=getattr(observer, "__qualname__", repr(observer)))

    return notify
