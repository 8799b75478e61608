"""Record of what was done and is being done, on disk before it is done; values and base class are in ``base``."""

from bringup.daemon.storage.journal.base import (
    NO_JOURNAL,
    InFlight,
    Journal,
    KeptDisks,
    Left,
    NewRun,
    Past,
    Settled,
    StartPause,
)
from bringup.daemon.storage.journal.queries import NotBack

__all__ = [
    "NO_JOURNAL",
    "InFlight",
    "Journal",
    "KeptDisks",
    "Left",
    "NewRun",
    "NotBack",
    "Past",
    "Settled",
    "StartPause",
]
