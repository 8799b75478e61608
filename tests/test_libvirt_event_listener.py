"""What the listener hears of real guests."""

import anyio
import pytest
from structlog.testing import capture_logs

from bringup.drivers.base import GuestSign, LifecycleEvent, PowerState, RebootType, Transition
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


async def test_a_start_is_one_event_though_libvirt_reports_two(server: Libvirtd) -> None:
    with guests(server, [SHUTDOWN]) as connection:
        domain = connection.lookupByUUIDString(UUID)
        async with a_driver(server) as driver:
            heard = EventRecorder(driver)
            domain.create()
            domain.suspend()
            await heard.until(Transition.PAUSED)
            domain.resume()
            await heard.until(Transition.RESUMED)

    assert heard.transitions == [Transition.STARTED, Transition.PAUSED, Transition.RESUMED]


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


async def test_errors_that_are_the_same_are_heard_once_until_they_are_followed(server: Libvirtd) -> None:
    with guests(server, [SHUTDOWN]) as connection:
        domain = connection.lookupByUUIDString(UUID)
        async with a_driver(server) as driver:
            heard, whole = list[GuestSign](), anyio.Event()

            def hear(sign: GuestSign) -> None:
                heard.append(sign)
                if sign.kind == "rebooted":
                    whole.set()

            driver.register_sign_listener(hear)
            watch = driver._ready.watch
            # This event loop is busy meanwhile: whatever is heard waits.
            for _ in range(1000):
                watch._on_io_error(connection, domain, "", "vda", 0, "", None)
            watch._on_reboot(connection, domain, None)
            with anyio.fail_after(60):
                await whole.wait()

    assert {sign.kind for sign in heard[:-1]} == {"io_error"}
    assert len(heard) <= 3


async def test_a_listener_that_fails_keeps_no_other_from_hearing(server: Libvirtd) -> None:
    def fail(_event: LifecycleEvent) -> None:
        raise ValueError("no")

    with guests(server, [SHUTDOWN]) as connection:
        domain = connection.lookupByUUIDString(UUID)
        async with a_driver(server) as driver:
            driver.register_event_listener(fail)
            heard = EventRecorder(driver)
            with capture_logs() as logs:
                domain.create()
                await heard.until(Transition.STARTED)
                domain.suspend()
                await heard.until(Transition.PAUSED)

    assert "libvirt.listener_failed" in {line["event"] for line in logs}
