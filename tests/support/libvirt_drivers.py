"""Drivers for libvirt to run the contract on: libvirt's own test hypervisor, and real QEMU guests."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from bringup.drivers.base import Driver, LifecycleEvent, PowerState, Transition
from bringup.drivers.capacity import Capacity
from bringup.drivers.libvirt.binding import binding
from bringup.drivers.libvirt.driver import LibvirtDriver
from bringup.drivers.libvirt_options import LibvirtOptions
from bringup.drivers.network.host import HostNetwork
from support import polling
from support.drivers import driver_guest, uuid_of
from support.libvirtd import Libvirtd, the_libvirtd

TEST_URI = "test:///default"
TEST_DOMAIN = (
    "<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory>4096</memory><os><type>hvm</type></os></domain>"
)


def options(server: Libvirtd, **more: Any) -> LibvirtOptions:
    """Return options for a libvirtd; a guest that does not follow is not waited for."""
    values: dict[str, Any] = {
        "uri": server.uri,
        "instances_path": server.directory / "instances",
        "wait_soft_reboot": 0.3,
        "ask_again_s": 0.2,
        "stopped_delay_s": 0,
        "poll_s": 0.05,
        "autostart": "warn",
    }
    return LibvirtOptions(**values | more)


@contextlib.asynccontextmanager
async def opened(
    made: LibvirtOptions, network: HostNetwork | None = None, capacity: Capacity | None = None
) -> AsyncIterator[LibvirtDriver]:
    """Open a driver."""
    driver = LibvirtDriver(made, network, capacity)
    await driver.init_host("compute-1")
    try:
        yield driver
    finally:
        await driver.close()


@contextlib.contextmanager
def guests(server: Libvirtd, states: Sequence[PowerState], **more: Any) -> Iterator[Any]:
    """Provide guests 1, 2, ... in these states; yield a separate connection."""
    with server.connected() as connection:
        try:
            for number, state in enumerate(states, start=1):
                server.define(uuid_of(number), driver_guest(number).name, **more)
                set_power_state(connection, number, state)
            yield connection
        finally:
            # That one may have broken.
            with server.connected() as new:
                remove_guests(new)


def set_power_state(connection: Any, number: int, state: PowerState) -> None:
    """Start the guest with a number, and pause it, as its state wants."""
    domain = connection.lookupByUUIDString(uuid_of(number))
    if state is not PowerState.SHUTDOWN:
        domain.create()
    if state is PowerState.PAUSED:
        domain.suspend()


def remove_guests(connection: Any) -> None:
    """Leave no guest."""
    libvirt = binding()
    for domain in connection.listAllDomains():
        with contextlib.suppress(libvirt.libvirtError):
            domain.destroy()
        with contextlib.suppress(libvirt.libvirtError):
            domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)


def emptied_libvirtd() -> Iterator[Libvirtd]:
    """Provide the libvirtd of this process to a test, and remove its guests afterwards."""
    server = the_libvirtd()
    yield server
    with server.connected() as connection:
        remove_guests(connection)


@contextlib.asynccontextmanager
async def qemu(states: Sequence[PowerState]) -> AsyncIterator[Driver]:
    """Provide real guests in these states."""
    server = the_libvirtd()
    with guests(server, states):
        async with opened(options(server)) as driver:
            yield driver


@contextlib.asynccontextmanager
async def in_test_hypervisor(states: Sequence[PowerState]) -> AsyncIterator[Driver]:
    """Provide guests of libvirt's test hypervisor, which lives as long as a client is connected."""
    try:
        connection = binding().open(TEST_URI)
    except ImportError as error:
        pytest.skip(str(error))
    try:
        remove_guests(connection)
        for number, state in enumerate(states, start=1):
            connection.defineXML(TEST_DOMAIN.format(name=driver_guest(number).name, uuid=uuid_of(number)))
            set_power_state(connection, number, state)
        made = LibvirtOptions(
            uri=TEST_URI, instances_path=Path("/nonexistent"), wait_soft_reboot=0.3, stopped_delay_s=0, poll_s=0.05
        )
        async with opened(made) as driver:
            yield driver
    finally:
        connection.close()


@contextlib.asynccontextmanager
async def a_driver(server: Libvirtd, **more: Any) -> AsyncIterator[LibvirtDriver]:
    """Open a driver for a libvirtd."""
    async with opened(options(server, **more)) as driver:
        yield driver


async def until_power_state(driver: LibvirtDriver, state: PowerState, number: int = 1) -> None:
    """Wait until a guest is in a state."""

    async def is_so() -> bool:
        return (await driver.get_info(driver_guest(number))).state is state

    await polling.reached(is_so, f"guest {number} {state.name}")


def id_of(connection: Any) -> int:
    """Return the id of guest 1, another one after each start."""
    number: int = connection.lookupByUUIDString(uuid_of(1)).ID()
    return number


class EventRecorder:
    """What a driver tells of guest 1."""

    def __init__(self, driver: LibvirtDriver) -> None:
        self.transitions: list[Transition] = []
        self._waiting: dict[Transition, anyio.Event] = {}
        driver.register_event_listener(self._take)

    def _take(self, event: LifecycleEvent) -> None:
        assert event.uuid == uuid_of(1)
        self.transitions.append(event.transition)
        self._waiting.pop(event.transition, anyio.Event()).set()

    async def until(self, transition: Transition) -> None:
        """Wait for it, or find that it came before."""
        with anyio.fail_after(60):
            if transition not in self.transitions:
                await self._waiting.setdefault(transition, anyio.Event()).wait()
