"""What a guest needs, read from the driver.  What follows is in :mod:`bringup.daemon.decisions.from_needs`.

A driver that cannot tell, or fails, gives no needs that are met: nothing is started on a guess.
"""

import anyio

from bringup.daemon.decisions.describe import missing
from bringup.daemon.decisions.from_needs import unmet
from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import is_pause
from bringup.daemon.decisions.states import PowerState, TaskState
from bringup.daemon.logs import get_logger
from bringup.daemon.recovery.guest_power import read_power_state
from bringup.daemon.recovery.pause import Pause, Paused
from bringup.drivers.base import Driver
from bringup.drivers.needs import Need, NeedNotMet, of_failed_look

log = get_logger()

DEADLINE_S = 60.0
"""Time limit of the driver, which checks files and devices."""


async def unmet_needs(instance: Instance, driver: Driver, pause: Pause | None = None) -> tuple[Need, ...]:
    """Read what a start of a guest relies on; return what is not met.  While starts are paused, that is their end."""
    if pause is not None and (end := pause.need) is not None:
        return (end,)
    try:
        with anyio.fail_after(DEADLINE_S):
            needs = await driver.needs(instance)
            return unmet(needs, reverting=instance.task_state is TaskState.RESIZE_MIGRATING)
    except Exception as error:  # noqa: BLE001 - whatever went wrong: what it needs is not known
        log.debug("needs.unknown", error=f"{type(error).__name__}: {error}")
        return (of_failed_look(instance.uuid, error),)


async def require_needs(instance: Instance, driver: Driver, pause: Pause, *, unpausing: bool = False) -> None:
    """Make sure that all that a guest needs is there; ``unpausing``: one that is paused has it.

    :raises NeedNotMet: something is not.
    """
    found = await unmet_needs(instance, driver, pause)
    if not found or (unpausing and await read_power_state(instance, driver) is PowerState.PAUSED):
        return
    raise (Paused if is_pause(found) else NeedNotMet)(missing(found), found)
