"""What the failure of an action means: a table, as :mod:`bringup.daemon.decisions` is for what is to be done.

What the host lacks is no fault of the instance: it defers it, whichever action found that out.  For the rest, an
action that is not in the table fails the instance whatever was raised.  "The driver cannot do that" is no failure where
Nova does not treat it as one.
"""

import enum

from bringup.daemon.decisions.actions import (
    AbortLiveMigration,
    Action,
    CleanupInterruptedSnapshot,
    Delete,
    EnsureFilteringRules,
    PlugVifs,
    ResumeStateOnHostBoot,
    RevertMigration,
    SetError,
    Unpause,
)
from bringup.daemon.errors import LeaseHeld, RecordNotFound, StoreError
from bringup.drivers.base import NotBegun, VirtualInterfacePlugError
from bringup.drivers.needs import NeedNotMet


class Reaction(enum.Enum):
    """What happens to the instance next."""

    TOLERATE = "continue as if the action had been done"
    WARN = "continue, with a warning"
    FAIL = "leave the record as it is, and end: failed"
    SET_ERROR = "set the record to ERROR, and end: failed"
    DEFER = "restore the record as it was before, and end: deferred"


ON_FAILURE: dict[type[Action], tuple[tuple[type[Exception], Reaction], ...]] = {
    # What an interrupted snapshot or migration left behind does not keep the guest from coming back.
    CleanupInterruptedSnapshot: ((Exception, Reaction.WARN),),
    # What must not be started here any more is somebody else's: its record too.
    RevertMigration: ((StoreError, Reaction.FAIL), (Exception, Reaction.WARN)),
    AbortLiveMigration: ((Exception, Reaction.WARN),),
    Delete: ((LeaseHeld, Reaction.FAIL), (Exception, Reaction.SET_ERROR)),
    Unpause: ((NotImplementedError, Reaction.TOLERATE),),
    # A NIC that cannot be plugged is shown to the user by ERROR; a PCI device that is gone is not (Nova bug 1981813).
    PlugVifs: ((NotImplementedError, Reaction.TOLERATE), (VirtualInterfacePlugError, Reaction.SET_ERROR)),
    ResumeStateOnHostBoot: (
        (StoreError, Reaction.FAIL),
        (NotImplementedError, Reaction.WARN),
        (Exception, Reaction.SET_ERROR),
    ),
    EnsureFilteringRules: ((NotImplementedError, Reaction.TOLERATE),),
    # It was deleted while it was to be set to ERROR: nothing is left to report.
    SetError: ((RecordNotFound, Reaction.TOLERATE),),
}


def reaction_to(action: Action, error: Exception) -> Reaction:
    """Return what ``error``, raised by ``action``, means."""
    if isinstance(error, NotBegun):
        # Nothing is known of the guest that its record could tell, and nothing may be taken for done.
        return Reaction.FAIL
    if isinstance(error, NeedNotMet):
        return Reaction.DEFER
    for kind, reaction in ON_FAILURE.get(type(action), ()):
        if isinstance(error, kind):
            return reaction
    return Reaction.FAIL
