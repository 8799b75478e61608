"""How long the end may take: every wait that a signal does not cut short has its bound here.

They come one after the other, in this order; what is under way when the signal comes is given up all at once.  The
units and manifests give at least the sum (``TimeoutStopSec=`` and its like); the daemon asks systemd for some more.
"""

from typing import Final

LET_GO_S: Final = 10.0
"""A claim on an instance is let go of, and a guest stopped that must not run."""
EVENTS_S: Final = 5.0
"""A lifecycle event that is being handled is finished; beside the claims."""
LEASE_S: Final = 3.0
STORE_S: Final = 5.0
CONDUCTOR_S: Final = 1.0
DRIVER_S: Final = 5.0
MESSAGING_S: Final = 3.0
JOURNAL_S: Final = 5.0
STATUS_S: Final = 5.0
HURRY_S: Final = 2.0
"""What asks a PostgreSQL when the signal comes has so long before it is cut off; beside the claims."""
