"""How much at once: it follows the limit, up and down, and who only waits for his turn is not late."""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import anyio
import anyio.to_thread
import pytest
from structlog.testing import capture_logs

from bringup.drivers.base import DriverError, PowerState
from bringup.drivers.capacity import Capacity
from bringup.drivers.deadlines import pausable_deadline, pause_deadlines
from bringup.drivers.libvirt.driver import LibvirtDriver
from bringup.drivers.libvirt.slots import Slots
from bringup.drivers.needs import MetBy, NeedKind, NeedNotMet, NeedState
from support import polling
from support.drivers import driver_guest, uuid_of
from support.libvirt_drivers import guests, opened, options, until_power_state
from support.libvirtd import Libvirtd, a_libvirtd

pytestmark = pytest.mark.anyio

WITHIN_S = 5.0
RUNNING, SHUTDOWN = PowerState.RUNNING, PowerState.SHUTDOWN


@pytest.fixture(scope="module")
def server() -> Iterator[Libvirtd]:
    with a_libvirtd(pause_s=0) as made:
        yield made


async def under_way(server: Libvirtd, count: int) -> None:
    """Wait until so many starts are under way in libvirt."""

    async def are() -> bool:
        return len(list((server.directory / "hooked").iterdir())) >= count

    await polling.reached(are, f"the start of {count} guests")


@pytest.fixture
def held(server: Libvirtd) -> Iterator[Libvirtd]:
    """Make the starts of guests 1 to 6 hang until the test releases them."""
    for path in (server.directory / "hooked").iterdir():
        path.unlink()
    for number in range(1, 7):
        (server.directory / "hold" / driver_guest(number).name).touch()
    yield server
    release_starts(server)


def release_starts(server: Libvirtd) -> None:
    for path in (server.directory / "hold").iterdir():
        path.unlink()


async def test_connections_come_and_go_with_the_limit_while_starts_are_under_way(held: Libvirtd) -> None:
    capacity = Capacity(1)
    with guests(held, [SHUTDOWN] * 6):
        async with opened(options(held), capacity=capacity) as driver:
            async with anyio.create_task_group() as group:
                for number in range(1, 7):
                    group.start_soon(driver.power_on, driver_guest(number))
                await under_way(held, 1)
                assert len(list((held.directory / "hooked").iterdir())) == 1

                capacity.resize(4)
                await under_way(held, 4)
                # Those four go on; no other begins before fewer than two are left.
                capacity.resize(2)
                release_starts(held)
            await until_power_state(driver, RUNNING)
            assert connections_of(driver) == 2
            # Guests that boot call nothing.
            capacity.resize(64, calls=3)
            assert driver._host._verbs._slots._limiter.total_tokens == 3


def connections_of(driver: LibvirtDriver) -> int:
    return len(driver._host._verbs._connections)


async def test_a_start_that_waited_in_the_queue_has_its_whole_deadline(held: Libvirtd) -> None:
    """The deadline of whoever bounds it runs from when it is sent, as its own does."""
    with guests(held, [SHUTDOWN] * 2):
        async with opened(options(held, connections=1, start_deadline=60)) as driver:
            async with anyio.create_task_group() as group:
                group.start_soon(driver.power_on, driver_guest(1))
                await under_way(held, 1)
                (held.directory / "hold" / driver_guest(2).name).unlink()
                late = anyio.current_time() + WITHIN_S

                async def start_the_second() -> None:
                    with anyio.fail_after(WITHIN_S) as scope, pausable_deadline(scope):
                        await driver.power_on(driver_guest(2))

                group.start_soon(start_the_second)
                await past(late + 0.1)
                release_starts(held)
            await until_power_state(driver, RUNNING)


async def past(moment: float) -> None:
    await anyio.sleep_until(moment)


async def test_a_call_that_was_never_sent_raises_not_sent(held: Libvirtd) -> None:
    with guests(held, [SHUTDOWN] * 2):
        async with opened(options(held, connections=1, start_deadline=0.5)) as driver:
            async with anyio.create_task_group() as group:

                async def hang() -> None:
                    with suppress(DriverError):
                        await driver.power_on(driver_guest(1))

                group.start_soon(hang)
                await under_way(held, 1)
                with pytest.raises(
                    NeedNotMet, match=r"did not start \S+: not sent: no connection was free in 0\.5 s \(1 calls"
                ) as raised:
                    await driver.power_on(driver_guest(2))
            (need,) = raised.value.needs
            assert (need.kind, need.state, need.met_by) == (NeedKind.MACHINE, NeedState.UNVERIFIED, MetBy.HOST)
            release_starts(held)
            await until_power_state(driver, RUNNING)
            assert (await driver.get_info(driver_guest(2))).state is SHUTDOWN


async def test_a_queued_call_is_not_abandoned_while_others_proceed() -> None:
    room = Slots(1, "connection")
    first = await room.acquire("begin", patience_s=0.3)
    entered: list[int] = []

    async def enter_and_leave(number: int) -> None:
        place = await room.acquire("go on", patience_s=0.3)
        entered.append(number)
        await past(anyio.current_time() + 0.2)
        room.release(place)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(enter_and_leave, number)
                await anyio.lowlevel.checkpoint()
            room.release(first)
    assert entered == [0, 1, 2, 3, 4]
    assert room.in_use == 0


async def test_a_cancelled_call_leaves_the_queue() -> None:
    room = Slots(1, "connection")
    first = await room.acquire("begin", patience_s=5)
    with anyio.move_on_after(0.05) as scope:
        await room.acquire("wait", patience_s=5)
    assert scope.cancelled_caught
    room.release(first)
    with anyio.fail_after(60):
        room.release(await room.acquire("begin", patience_s=5))
    assert room.in_use == 0


async def test_a_deadline_stands_still_while_several_wait_and_runs_again_after() -> None:
    with anyio.move_on_after(0.4) as scope, pausable_deadline(scope):
        async with anyio.create_task_group() as group:

            async def wait(seconds: float) -> None:
                with pause_deadlines():
                    await past(anyio.current_time() + seconds)

            group.start_soon(wait, 0.3)
            group.start_soon(wait, 0.6)
        before = scope.cancel_called
        await anyio.sleep_forever()
    assert not before
    assert scope.cancelled_caught
    # Outside of any such block there is nothing to stop.
    with pause_deadlines():
        await anyio.to_thread.run_sync(partial(uuid_of, 1))


async def test_a_set_number_of_connections_stays_and_too_few_are_warned_of(server: Libvirtd) -> None:
    capacity = Capacity(2)
    async with opened(options(server, connections=2), capacity=capacity) as driver:
        with capture_logs() as logs:
            capacity.resize(3)

        [warning] = [line for line in logs if line["event"] == "libvirt.connections_too_few"]
        assert (warning["connections"], warning["concurrency"]) == (2, 3)
        assert driver._host._verbs._slots._limiter.total_tokens == 2
