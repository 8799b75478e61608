"""What the tests of the simulated host share: a host made in one line, and each verb called with something."""

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from bringup.drivers.base import BootCounters, BootSigns, Driver, PowerState, RebootType, SharedStorageProbe
from bringup.drivers.simulated import Fault, Scenario, SimulatedCapacity, SimulatedDriver, SimulatedGuest
from support.drivers import driver_guest, uuid_of

GUEST = driver_guest(1)
ARGUMENTS: dict[str, Any] = {
    "host": "compute-1",
    "guest": GUEST,
    "uuid": GUEST.uuid,
    "uuids": (GUEST.uuid,),
    "where": (),
    "reboot_type": RebootType.HARD,
    "timeout_s": 0,
    "retry_interval_s": 0,
    "destroy_disks": False,
    "guests": (GUEST,),
    "notify": print,
    "power_on": True,
    "probe": SharedStorageProbe(GUEST.uuid, "elsewhere"),
}


def host(
    *guests: SimulatedGuest, faults: tuple[Fault, ...] = (), record: bool = False, room: int | None = None
) -> SimulatedDriver:
    """Simulate a host with these guests, of which what boots is counted; it is not ready yet."""
    scenario = Scenario(guests=guests, capacity=SimulatedCapacity(running=room), faults=faults)
    driver = SimulatedDriver(scenario, record=record)
    driver.shows(GUEST.uuid, BootSigns(BootCounters()))
    return driver


def guest(number: int = 1, state: PowerState = PowerState.RUNNING, **more: Any) -> SimulatedGuest:
    """Add the guest with a number in a state."""
    return SimulatedGuest(uuid=uuid_of(number), name=driver_guest(number).name, power_state=state, **more)


def call(driver: Driver, verb: str) -> Coroutine[Any, Any, object]:
    """Call a verb by name, for guest 1 where it wants one."""
    method: Callable[..., Coroutine[Any, Any, object]] = getattr(driver, verb)
    return method(**{name: ARGUMENTS[name] for name in inspect.signature(method).parameters})
