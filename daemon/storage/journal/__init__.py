"""What was done and is being done, on disk before it is done: the words and the protocol are in ``base``."""

from bringup.daemon.storage.journal.base import (
    NO_JOURNAL,
    FailedBefore,
    InFlight,
    Journal,
    KeptDisks,
    Left,
    NewRun,
    Past,
    Settled,
)
from bringup.daemon.storage.journal.queries import Owed

__all__ = [
    "NO_JOURNAL",
    "FailedBefore",
    "InFlight",
    "Journal",
    "KeptDisks",
    "Left",
    "NewRun",
    "Owed",
    "Past",
    "Settled",
]
