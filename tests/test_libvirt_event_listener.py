"""What the listener hears of real guests."""

import pytest

from bringup.drivers.base import PowerState, RebootType, Transition
from support.drivers import driver_guest, uuid_of
from support.libvirt_drivers import EventRecorder, a_driver, guests
from support.libvirtd import Libvirtd, the_libvirtd

pytestmark = pytest.mark.anyio

GUEST, UUID = driver_guest(1), uuid_of(1)


@pytest.fixture
def server() -> Libvirtd:
    return the_libvirtd()


RUNNING, SHUTDOWN = PowerState.RUNNING, PowerState.SHUTDOWN


async def test_a_stop_that_is_part_of_a_reboot_is_no_event(server: Libvirtd) -> None:
    with guests(server, [RUNNING]) as connection:
        async with a_driver(server, stopped_delay_s=15) as driver:
            heard = EventRecorder(driver)
            await driver.reboot(GUEST, RebootType.HARD)
            await heard.until(Transition.STARTED)
            connection.lookupByUUIDString(UUID).suspend()
            await heard.until(Transition.PAUSED)

    assert Transition.STOPPED not in heard.transitions


@pytest.mark.parametrize(
    ("kind", "transition"),
    [("panic", Transition.CRASHED), ("sleep", Transition.SUSPENDED), ("halt", Transition.STARTED)],
)
async def test_the_listener_receives_events_of_a_guest(server: Libvirtd, kind: str, transition: Transition) -> None:
    with guests(server, [SHUTDOWN], guest=kind) as connection:
        async with a_driver(server) as driver:
            heard = EventRecorder(driver)
            connection.lookupByUUIDString(UUID).create()

            await heard.until(transition)


async def test_the_listener_receives_events_caused_by_others(server: Libvirtd) -> None:
    with guests(server, [SHUTDOWN]) as connection:
        domain = connection.lookupByUUIDString(UUID)
        async with a_driver(server) as driver:
            heard = EventRecorder(driver)
            for act, transition in (
                (domain.create, Transition.STARTED),
                (domain.suspend, Transition.PAUSED),
                (domain.resume, Transition.RESUMED),
                (domain.destroy, Transition.STOPPED),
            ):
                act()
                await heard.until(transition)
