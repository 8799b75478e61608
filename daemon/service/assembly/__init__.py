"""Assembly of a run's parts from the settings.

``drivers``, ``stores``, ``messaging``, ``scheduler``: each opens what is set; ``run``: the rest.  Modules that are slow
to import are imported where they are used: a booting host should call Placement first.
"""

from bringup.daemon.service.assembly.close_driver import CLOSE_S, close_driver
from bringup.daemon.service.assembly.drivers import (
    check_driver,
    has_driver,
    make_driver,
    make_network,
)
from bringup.daemon.service.assembly.messaging import (
    opened_messaging,
)
from bringup.daemon.service.assembly.run import (
    JOURNAL,
    alive,
    boot_id,
    given_by,
    make_boots,
    make_executor,
    make_verification,
    needs_policy,
    opened_journal,
    owes_elsewhere,
    utc_now,
)
from bringup.daemon.service.assembly.scheduler import (
    keeping_in_step,
    opened_transport,
    reports,
    scheduler_tls,
)
from bringup.daemon.service.assembly.stores import (
    hurry,
    open_database,
    opened_own_store,
    opened_store,
)

__all__ = [
    "CLOSE_S",
    "JOURNAL",
    "alive",
    "boot_id",
    "check_driver",
    "close_driver",
    "given_by",
    "has_driver",
    "hurry",
    "keeping_in_step",
    "make_boots",
    "make_driver",
    "make_executor",
    "make_network",
    "make_verification",
    "needs_policy",
    "open_database",
    "opened_journal",
    "opened_messaging",
    "opened_own_store",
    "opened_store",
    "opened_transport",
    "owes_elsewhere",
    "reports",
    "scheduler_tls",
    "utc_now",
]
