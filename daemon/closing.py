"""How long a stop may take: the bound of every wait that a stop signal does not cut short.

The waits follow one another in this order; what is in progress when the signal is received is abandoned at once.  The
units and manifests allow at least the sum (``TimeoutStopSec=`` and its like); the daemon asks systemd for some more.
"""

from typing import Final

RELEASE_CLAIM_S: Final = 10.0
"""Releasing a claim on an instance, and stopping a guest that must not run."""
EVENTS_S: Final = 5.0
"""Finishing the handling of a lifecycle event; in parallel with the claims."""
LEASE_S: Final = 3.0
STORE_S: Final = 5.0
CONDUCTOR_S: Final = 1.0
DRIVER_S: Final = 5.0
MESSAGING_S: Final = 3.0
JOURNAL_S: Final = 5.0
STATUS_S: Final = 5.0
HURRY_S: Final = 2.0
"""A query of PostgreSQL that is in progress when the signal is received; in parallel with the claims."""
