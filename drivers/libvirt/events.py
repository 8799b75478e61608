"""What libvirt's lifecycle events mean (``VIR_DOMAIN_EVENT_...``), as Nova reads them.

A guest that leaves by migration is not stopped, and one that is halted for it is not paused: nothing is said then.
"""

from typing import Any, Final

from bringup.drivers.base import PowerState, Transition

# By the names of libvirt's constants.
_MEANS: Final = {
    "STARTED": Transition.STARTED,
    "SUSPENDED": Transition.PAUSED,
    "RESUMED": Transition.RESUMED,
    "STOPPED": Transition.STOPPED,
    "CRASHED": Transition.CRASHED,
    "PMSUSPENDED": Transition.SUSPENDED,
}
_MIGRATION: Final = {
    "STOPPED": ("STOPPED_MIGRATED",),
    "SUSPENDED": ("SUSPENDED_MIGRATED", "SUSPENDED_POSTCOPY", "SUSPENDED_POSTCOPY_FAILED"),
}
# What is said of a guest that is in another state than when it was last seen.
NOW: Final = {
    PowerState.RUNNING: Transition.STARTED,
    PowerState.PAUSED: Transition.PAUSED,
    PowerState.SHUTDOWN: Transition.STOPPED,
    PowerState.CRASHED: Transition.CRASHED,
    PowerState.SUSPENDED: Transition.SUSPENDED,
}


def transition_of(event: int, detail: int, libvirt: Any) -> Transition | None:
    """Give the transition of an event; None: nothing that a record should follow."""
    for name, transition in _MEANS.items():
        if event == getattr(libvirt, f"VIR_DOMAIN_EVENT_{name}", None):
            migration = (getattr(libvirt, f"VIR_DOMAIN_EVENT_{each}", None) for each in _MIGRATION.get(name, ()))
            return None if detail in migration else transition
    return None
