"""Power of a guest: read, and powered off at once where it must not run on this host."""

from bringup.daemon.decisions.did import POWERED, combined
from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import Did
from bringup.daemon.decisions.states import PowerState
from bringup.daemon.recovery.working_copy import WorkingCopy
from bringup.drivers.base import Driver, InstanceNotFound


async def read_power_state(instance: Instance, driver: Driver) -> PowerState:
    """Return the guest's power state; NOSTATE, as in Nova, for a guest that the hypervisor does not have."""
    try:
        info = await driver.get_info(instance)
    except InstanceNotFound:
        return PowerState.NOSTATE
    return info.state


async def power_off_now(record: WorkingCopy, driver: Driver) -> None:
    """Power a guest off at once that must not run here; one that does not run is left alone."""
    if await read_power_state(record.instance, driver) not in POWERED:
        record.did = combined(record.did, Did.STAYS_OFF)
        return
    with record.doing(Did.POWERED_OFF):
        await driver.power_off(record.instance, timeout_s=0, retry_interval_s=0)
