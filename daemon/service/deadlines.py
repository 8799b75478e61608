"""How long each phase of a run may take: the deadlines of its steps together, and ``stuck_after``."""

from collections.abc import Mapping

from bringup.daemon import closing
from bringup.daemon.settings import Settings
from bringup.placement.keystone import LOGIN_S

AT_MOST = 4
"""Needs that guests share and that may be waited for one after the other, each with its own budget."""
LEAST_S = 3.0
"""Lower bound: the notifier runs once a second."""
CLOSE_S = 15.0
"""How long a failed start may take to exit."""
STOP_SLACK_S = 30.0
"""Margin of a stop: a commit on a slow disk, a busy machine."""


def patience_s(settings: Settings) -> Mapping[str, float]:
    """Return the time that each phase may take, in seconds."""
    limits, placement, store = settings.limits, settings.placement, settings.store
    host = limits.host_deadline
    # An instance may be waiting for the store when its own deadline passes: a thread cannot be interrupted.
    instance = limits.instance_deadline + store.wait + store.busy_timeout
    # Where all slots are of guests that boot, or what is left waits for one of them, nothing else ends.
    boots = max(instance, settings.pace.hold, settings.pace.after_at_most)
    # Beside its own wait, one request or one login may be under way.
    gate = placement.wait + placement.connect_timeout + max(placement.read_timeout, LOGIN_S)
    allowed = {
        "starting": host,
        "placement": gate,
        # The store is opened, the lease acquired, the driver started, its guests listed, the inventory updated.
        "driver": store.wait + store.busy_timeout + 2 * host + (gate if settings.inventory.update else 0.0),
        # The journal's past, the records, firewall rules deferred and collected again.
        "records": 3 * host + instance,
        "host": AT_MOST * limits.host_wait + host,
        "evacuated": instance,
        "instances": boots,
        # Placement has the host's deadline for all of them together.
        "allocations": 2 * host,
        "report": limits.shutdown_report_deadline,
        "done": 2 * host + instance,
        "failed": CLOSE_S,
    }
    return {phase: allowed_s + limits.stuck_after for phase, allowed_s in allowed.items()}


def extension_s(settings: Settings) -> float:
    """Return how many seconds each EXTEND_TIMEOUT_USEC requests; a process that hangs is killed after them."""
    return max(2 * settings.limits.stuck_after, LEAST_S)


def closes_s(settings: Settings) -> float:
    """Return the sum, in seconds, of all waits after a stop signal."""
    abandoned = max(closing.RELEASE_CLAIM_S, closing.EVENTS_S)
    closed = (
        closing.LEASE_S
        + closing.STORE_S
        + closing.CONDUCTOR_S
        + closing.DRIVER_S
        + closing.MESSAGING_S
        + closing.JOURNAL_S
        + closing.STATUS_S
    )
    return abandoned + settings.limits.shutdown_report_deadline + closed


def stopping_s(settings: Settings) -> float:
    """Return how long a stop may take, in seconds."""
    return closes_s(settings) + STOP_SLACK_S
