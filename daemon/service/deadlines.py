"""For how long nothing need end in a phase: what the deadlines of its steps allow together, and ``stuck_after``."""

from collections.abc import Mapping

from bringup.daemon import closing
from bringup.daemon.settings import Settings
from bringup.placement.keystone import LOGIN_S

AT_MOST = 4
"""Things that guests need together and that may come one after the other, each with its own budget."""
LEAST_S = 3.0
"""Less cannot be asked for by one who asks once a second."""
CLOSE_S = 15.0
"""How long a start that failed may take to end."""
STOP_SLACK_S = 30.0
"""What the end may take on top: a commit on a slow disk, a busy machine."""


def patience_s(settings: Settings) -> Mapping[str, float]:
    """Give it by phase, in seconds."""
    limits, placement, store = settings.limits, settings.placement, settings.store
    host = limits.host_deadline
    # An instance may be waiting for the store when its own deadline passes: nobody can call a thread back.
    instance = limits.instance_deadline + store.wait + store.busy_timeout
    # Beside its own wait, one request or one login may be under way.
    gate = placement.wait + placement.connect_timeout + max(placement.read_timeout, LOGIN_S)
    allowed = {
        "starting": host,
        "placement": gate,
        # The store opened, the lease taken, the driver begun, its guests listed, the inventory put right.
        "driver": store.wait + store.busy_timeout + 2 * host + (gate if settings.inventory.update else 0.0),
        # The journal's past, the records, firewall rules deferred and collected again.
        "records": 3 * host + instance,
        "host": AT_MOST * limits.host_wait + host,
        "evacuated": instance,
        "instances": instance,
        # Whatever Placement does, they have the host's deadline all in all.
        "allocations": 2 * host,
        "report": limits.shutdown_report_deadline,
        "done": 2 * host + instance,
        "failed": CLOSE_S,
    }
    return {phase: allowed_s + limits.stuck_after for phase, allowed_s in allowed.items()}


def extension_s(settings: Settings) -> float:
    """Give how much time is asked for at once while a run gets on: a process that hangs as a whole has that long."""
    return max(2 * settings.limits.stuck_after, LEAST_S)


def closes_s(settings: Settings) -> float:
    """Give the sum of all that is waited for once a signal has come."""
    given_up = max(closing.LET_GO_S, closing.EVENTS_S)
    closed = (
        closing.LEASE_S
        + closing.STORE_S
        + closing.CONDUCTOR_S
        + closing.DRIVER_S
        + closing.MESSAGING_S
        + closing.JOURNAL_S
        + closing.STATUS_S
    )
    return given_up + settings.limits.shutdown_report_deadline + closed


def stopping_s(settings: Settings) -> float:
    """Give how long the end may take once a signal has come."""
    return closes_s(settings) + STOP_SLACK_S
