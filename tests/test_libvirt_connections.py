"""Libvirt goes away, hangs, comes back: what was under way ends right, and a call that hangs costs its own slot."""

from collections.abc import Callable, Coroutine, Iterator
from functools import partial

import anyio
import anyio.to_thread
import pytest

from bringup.drivers.base import LifecycleEvent, PowerState, RebootType, Transition
from bringup.drivers.libvirt.driver import LibvirtDriver
from bringup.drivers.libvirt.errors import HypervisorUnavailable
from bringup.drivers.needs import NeedNotMet
from support.drivers import driver_guest, uuid_of
from support.libvirt_drivers import guests, id_of, opened, options, until_power_state
from support.libvirtd import Libvirtd, a_libvirtd

pytestmark = pytest.mark.anyio

RUNNING, SHUTDOWN = PowerState.RUNNING, PowerState.SHUTDOWN
GUEST, UUID = driver_guest(1), uuid_of(1)


@pytest.fixture(scope="module")
def of_module() -> Iterator[Libvirtd]:
    with a_libvirtd(pause_s=0) as server:
        yield server


@pytest.fixture
def server(of_module: Libvirtd) -> Libvirtd:
    for path in (of_module.directory / "hooked").iterdir():
        path.unlink()
    return of_module


async def in_background(work: Callable[[], object]) -> None:
    """Do what blocks while the event loop goes on."""
    await anyio.to_thread.run_sync(work)


VERBS: dict[str, Callable[[LibvirtDriver], Coroutine[None, None, None]]] = {
    "power_on": lambda driver: driver.power_on(GUEST),
    "resume_state_on_host_boot": lambda driver: driver.resume_state_on_host_boot(GUEST),
    "reboot": lambda driver: driver.reboot(GUEST, RebootType.HARD),
}


@pytest.mark.parametrize("verb", list(VERBS))
async def test_a_start_interrupted_by_a_libvirt_crash_is_read_again_and_completed(server: Libvirtd, verb: str) -> None:
    with guests(server, [SHUTDOWN]):
        async with opened(options(server)) as driver:
            with server.held(GUEST.name):
                with anyio.fail_after(100):
                    async with anyio.create_task_group() as group:
                        group.start_soon(VERBS[verb], driver)
                        await in_background(partial(server.until_start_hangs, GUEST.name))
                        await in_background(server.kill)
                        (server.directory / "hold" / GUEST.name).unlink()
                        await in_background(server.start_again)

            assert (await driver.get_info(GUEST)).state is RUNNING


async def test_a_guest_that_was_restarted_when_libvirt_died_is_not_restarted_again(server: Libvirtd) -> None:
    with guests(server, [RUNNING]) as connection:
        before = connection.lookupByUUIDString(UUID).ID()
        async with opened(options(server)) as driver:
            with anyio.fail_after(100):
                async with anyio.create_task_group() as group:
                    group.start_soon(VERBS["reboot"], driver)
                    await in_background(partial(server.until_start_hangs, GUEST.name))
                    await in_background(server.kill)
                    await in_background(server.start_again)

            assert (await driver.get_info(GUEST)).state is RUNNING
        with server.connected() as new:
            assert new.lookupByUUIDString(UUID).ID() in (before, before + 1)


async def test_libvirt_that_does_not_come_back_is_reported_as_an_error(server: Libvirtd) -> None:
    with guests(server, [RUNNING]):
        async with opened(options(server, reconnect=1)) as driver:
            server.kill()
            try:
                with anyio.fail_after(50), pytest.raises(HypervisorUnavailable, match="check that libvirtd"):
                    await driver.get_info(GUEST)
            finally:
                server.start_again()
            with anyio.fail_after(50):
                assert (await driver.get_info(GUEST)).state is RUNNING


async def test_a_hanging_start_takes_its_own_slot_and_the_others_continue(server: Libvirtd) -> None:
    count = 6
    with guests(server, [SHUTDOWN] * count):
        made = options(server, connections=2, start_deadline=60)
        async with opened(made) as driver:
            with server.held(GUEST.name):
                async with anyio.create_task_group() as group:
                    group.start_soon(driver.power_on, GUEST)
                    await in_background(partial(server.until_start_hangs, GUEST.name))
                    for number in range(2, count + 1):
                        await driver.power_on(driver_guest(number))
                        assert (await driver.get_info(driver_guest(number))).state is RUNNING
                    (server.directory / "hold" / GUEST.name).unlink()
            await until_power_state(driver, RUNNING)


async def test_a_call_without_an_answer_ends_at_its_deadline_and_its_slot_comes_back(server: Libvirtd) -> None:
    with guests(server, [SHUTDOWN, SHUTDOWN]):
        async with opened(options(server, connections=1, start_deadline=1)) as driver:
            with server.held(GUEST.name):
                with anyio.fail_after(50), pytest.raises(NeedNotMet, match="its effect is unknown"):
                    await driver.power_on(GUEST)
                # The one slot is taken by what still hangs.
                with pytest.raises(NeedNotMet):
                    await driver.power_on(driver_guest(2))
            # It was done all the same, later.
            await until_power_state(driver, RUNNING)
            await driver.power_on(driver_guest(2))


async def test_a_reboot_completed_after_its_deadline_is_not_repeated(
    server: Libvirtd,
) -> None:
    with guests(server, [RUNNING]) as connection:
        async with opened(options(server, connections=1, start_deadline=5)) as driver:
            before = id_of(connection)
            not_known = pytest.raises(NeedNotMet, match="its effect is unknown")
            with server.held(GUEST.name), anyio.fail_after(50), not_known:
                await driver.reboot(GUEST, RebootType.HARD)
            await until_power_state(driver, RUNNING)
            rebooted = id_of(connection)

            await driver.reboot(GUEST, RebootType.HARD)
            assert id_of(connection) == rebooted != before
            # The next one is another wish.
            await driver.reboot(GUEST, RebootType.HARD)
            assert id_of(connection) != rebooted


async def test_a_silent_libvirt_is_disconnected_by_keepalive(server: Libvirtd) -> None:
    with guests(server, [RUNNING]):
        async with opened(options(server, keepalive_interval=1, reconnect=1, call_deadline=60)) as driver:
            await driver.get_info(GUEST)
            with server.frozen():
                with anyio.move_on_after(3) as first:
                    await driver.get_info(GUEST)
                assert first.cancelled_caught
            with anyio.fail_after(60):
                assert (await driver.get_info(GUEST)).state is RUNNING


async def test_a_caller_that_is_cancelled_does_not_wait_for_libvirt(server: Libvirtd) -> None:
    with guests(server, [SHUTDOWN]):
        async with opened(options(server)) as driver:
            with server.held(GUEST.name):
                async with anyio.create_task_group() as group:
                    group.start_soon(driver.power_on, GUEST)
                    await in_background(partial(server.until_start_hangs, GUEST.name))
                    group.cancel_scope.cancel()
            await until_power_state(driver, RUNNING)


async def test_events_continue_after_a_libvirt_restart_with_the_changes_meanwhile(server: Libvirtd) -> None:
    with guests(server, [RUNNING, SHUTDOWN]):
        async with opened(options(server)) as driver:
            heard: list[LifecycleEvent] = []
            came = anyio.Event()

            def listen(event: LifecycleEvent) -> None:
                heard.append(event)
                came.set()

            driver.register_event_listener(listen)
            await in_background(server.kill)
            await in_background(server.end_guests)
            await in_background(server.start_again)
            with anyio.fail_after(60):
                await came.wait()
            assert heard == [LifecycleEvent(UUID, Transition.STOPPED)]

            with server.connected() as connection, anyio.fail_after(60):
                came = anyio.Event()
                connection.lookupByUUIDString(uuid_of(2)).create()
                await came.wait()
            assert heard[1].uuid == uuid_of(2)
