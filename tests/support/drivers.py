"""What the tests of drivers share: guests to name, and drivers to run the contract on."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from bringup.drivers.base import Driver, PowerState
from bringup.drivers.simulated import Scenario, SimulatedDriver, SimulatedGuest


@dataclass(frozen=True, slots=True)
class DriverGuest:
    """A guest as a driver is told of it."""

    uuid: str
    name: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    system_metadata: Mapping[str, str] = field(default_factory=dict)
    network_info: Sequence[Mapping[str, Any]] = ()
    block_devices: Sequence[Mapping[str, Any]] = ()


def uuid_of(number: int) -> str:
    """Name the guest with a number."""
    return str(UUID(int=number))


def driver_guest(number: int) -> DriverGuest:
    """Return the guest with a number as a driver receives it."""
    return DriverGuest(uuid_of(number), f"instance-{number:08x}")


# Makes a ready driver whose guests 1, 2, ... are in the states; what it made is gone afterwards.
Rig = Callable[[Sequence[PowerState]], AbstractAsyncContextManager[Driver]]


@asynccontextmanager
async def simulated(states: Sequence[PowerState]) -> AsyncIterator[Driver]:
    """Simulate guests in these states."""
    guests = tuple(
        SimulatedGuest(uuid=uuid_of(number), name=driver_guest(number).name, power_state=state)
        for number, state in enumerate(states, start=1)
    )
    driver = SimulatedDriver(Scenario(guests=guests))
    await driver.init_host("compute-1")
    try:
        yield driver
    finally:
        await driver.close()
