"""What holds for every driver.  A verb may answer NotImplementedError; what it says it did, it has done."""

from collections.abc import Callable, Coroutine

import anyio
import pytest

from bringup.drivers.base import (
    Driver,
    DriverError,
    InstanceNotFound,
    LifecycleEvent,
    PowerState,
    RebootType,
    Transition,
)
from bringup.drivers.needs import NeedState
from support import libvirt_drivers
from support.drivers import DriverGuest, Rig, driver_guest, simulated, uuid_of

pytestmark = pytest.mark.anyio

RUNNING, PAUSED, SHUTDOWN = PowerState.RUNNING, PowerState.PAUSED, PowerState.SHUTDOWN
RIGS: dict[str, Rig] = {
    "simulated": simulated,
    "libvirt-test": libvirt_drivers.in_test_hypervisor,
    "libvirt-qemu": libvirt_drivers.qemu,
}
Verb = Callable[[Driver, DriverGuest], Coroutine[None, None, object]]


async def _power_off(driver: Driver, guest: DriverGuest) -> None:
    await driver.power_off(guest, timeout_s=0, retry_interval_s=0)


async def _reboot_hard(driver: Driver, guest: DriverGuest) -> None:
    await driver.reboot(guest, RebootType.HARD)


async def _reboot_soft(driver: Driver, guest: DriverGuest) -> None:
    await driver.reboot(guest, RebootType.SOFT)


async def _revert_on(driver: Driver, guest: DriverGuest) -> None:
    await driver.finish_revert_migration(guest, power_on=True)


async def _revert_off(driver: Driver, guest: DriverGuest) -> None:
    await driver.finish_revert_migration(guest, power_on=False)


VERBS: dict[str, Verb] = {
    "power_on": lambda driver, guest: driver.power_on(guest),
    "power_off": _power_off,
    "reboot hard": _reboot_hard,
    "reboot soft": _reboot_soft,
    "unpause": lambda driver, guest: driver.unpause(guest),
    "resume_state_on_host_boot": lambda driver, guest: driver.resume_state_on_host_boot(guest),
    "finish_revert_migration on": _revert_on,
    "finish_revert_migration off": _revert_off,
}


@pytest.fixture(params=list(RIGS.values()), ids=list(RIGS))
def rig(request: pytest.FixtureRequest) -> Rig:
    made: Rig = request.param
    return made


@pytest.mark.parametrize(
    ("verb", "before", "after"),
    [
        ("power_on", SHUTDOWN, RUNNING),
        ("power_off", RUNNING, SHUTDOWN),
        ("power_off", PAUSED, SHUTDOWN),
        ("power_off", SHUTDOWN, SHUTDOWN),
        ("reboot hard", RUNNING, RUNNING),
        ("reboot hard", SHUTDOWN, RUNNING),
        ("reboot soft", RUNNING, RUNNING),
        ("unpause", PAUSED, RUNNING),
        ("resume_state_on_host_boot", SHUTDOWN, RUNNING),
        ("resume_state_on_host_boot", RUNNING, RUNNING),
        ("resume_state_on_host_boot", PAUSED, PAUSED),
        ("finish_revert_migration on", SHUTDOWN, RUNNING),
        ("finish_revert_migration off", SHUTDOWN, SHUTDOWN),
    ],
)
async def test_a_verb_brings_a_guest_from_state_to_state(
    rig: Rig, verb: str, before: PowerState, after: PowerState
) -> None:
    async with rig([before]) as driver:
        try:
            await VERBS[verb](driver, driver_guest(1))
        except NotImplementedError:
            after = before

        assert (await driver.get_info(driver_guest(1))).state is after


async def test_a_guest_that_is_off_cannot_be_unpaused(rig: Rig) -> None:
    async with rig([SHUTDOWN]) as driver:
        with pytest.raises((DriverError, NotImplementedError)):
            await driver.unpause(driver_guest(1))

        assert (await driver.get_info(driver_guest(1))).state is SHUTDOWN


@pytest.mark.parametrize("verb", ["get_info", "power_off", "unpause"])
async def test_a_guest_that_is_not_there_is_not_found(rig: Rig, verb: str) -> None:
    verbs: dict[str, Verb] = {**VERBS, "get_info": lambda driver, guest: driver.get_info(guest)}

    async with rig([RUNNING]) as driver:
        with pytest.raises((InstanceNotFound, NotImplementedError)):
            await verbs[verb](driver, driver_guest(2))


async def test_guests_are_listed_running_or_not(rig: Rig) -> None:
    async with rig([RUNNING, SHUTDOWN]) as driver:
        uuids = await driver.list_instance_uuids()
        names = await driver.list_instances()

    assert sorted(uuids) == [uuid_of(1), uuid_of(2)]
    assert sorted(names) == [driver_guest(1).name, driver_guest(2).name]


async def test_what_guests_need_together_is_there_where_they_need_nothing(rig: Rig) -> None:
    async with rig([RUNNING, SHUTDOWN]) as driver:
        needs = [*await driver.host_needs([driver_guest(1), driver_guest(2)]), *await driver.host_needs([])]

        assert [need for need in needs if need.state is not NeedState.MET] == []
        assert [(await driver.get_info(driver_guest(number))).state for number in (1, 2)] == [RUNNING, SHUTDOWN]


async def test_a_driver_that_filters_nothing_keeps_no_rules(rig: Rig) -> None:
    async with rig([RUNNING]) as driver:
        with anyio.fail_after(60):
            await driver.keep_filtering_rules(lambda _change: pytest.fail("nothing was changed"))


@pytest.mark.parametrize("destroy_disks", [True, False], ids=["with disks", "without disks"])
@pytest.mark.parametrize("state", [RUNNING, SHUTDOWN])
async def test_a_destroyed_guest_is_gone_and_its_neighbour_is_not(
    rig: Rig, state: PowerState, *, destroy_disks: bool
) -> None:
    async with rig([state, RUNNING]) as driver:
        await driver.destroy(driver_guest(1), destroy_disks=destroy_disks)

        assert await driver.list_instance_uuids() == [uuid_of(2)]
        with pytest.raises(InstanceNotFound):
            await driver.get_info(driver_guest(1))


async def test_a_guest_that_is_not_there_may_be_destroyed(rig: Rig) -> None:
    async with rig([RUNNING]) as driver:
        await driver.destroy(driver_guest(2), destroy_disks=False)

        assert await driver.list_instance_uuids() == [uuid_of(1)]


async def test_the_listener_receives_a_guest_start_and_stop(rig: Rig) -> None:
    heard: list[LifecycleEvent] = []
    stopped = anyio.Event()

    def listen(event: LifecycleEvent) -> None:
        heard.append(event)
        if event.transition is Transition.STOPPED:
            stopped.set()

    async with rig([SHUTDOWN]) as driver:
        driver.register_event_listener(listen)
        await driver.power_on(driver_guest(1))
        await VERBS["power_off"](driver, driver_guest(1))
        with anyio.fail_after(60):
            await stopped.wait()

    assert LifecycleEvent(uuid_of(1), Transition.STARTED) in heard
    assert heard[-1] == LifecycleEvent(uuid_of(1), Transition.STOPPED)


async def test_firewall_rules_can_be_deferred_and_applied_again_and_again(rig: Rig) -> None:
    async with rig([RUNNING]) as driver:
        try:
            for _ in range(2):
                await driver.filter_defer_apply_on()
                await driver.ensure_filtering_rules_for_instance(driver_guest(1))
                await driver.filter_defer_apply_off()
        except NotImplementedError:
            pass

        assert (await driver.get_info(driver_guest(1))).state is RUNNING


async def test_a_mark_on_shared_storage_can_be_taken_away_twice(rig: Rig) -> None:
    async with rig([SHUTDOWN]) as driver:
        probe = await driver.check_instance_shared_storage_local(driver_guest(1))
        assert probe is None or probe.uuid == uuid_of(1)

        for _ in range(2 if probe else 0):
            assert probe is not None
            await driver.check_instance_shared_storage_cleanup(probe)


async def test_closing_leaves_the_guests_and_may_be_done_twice(rig: Rig) -> None:
    heard: list[LifecycleEvent] = []

    async with rig([RUNNING]) as driver:
        driver.register_event_listener(heard.append)
        await driver.close()
        await driver.close()

    assert heard == []
