"""The simulated host does what a hypervisor does, and refuses what one refuses."""

import inspect
from functools import partial

import anyio
import pytest

from bringup.drivers.base import (
    Driver,
    DriverError,
    GuestInfo,
    InstanceNotFound,
    PowerState,
    RebootType,
)
from bringup.drivers.needs import NeedNotMet
from bringup.drivers.simulated import Call, Fault, SimulatedNeed, Verb
from bringup.drivers.simulated.verbs import VERBS
from support.drivers import driver_guest, uuid_of
from support.simulated import ARGUMENTS, GUEST, call, guest, host

pytestmark = pytest.mark.anyio


def test_it_is_a_driver_and_a_scenario_knows_each_of_its_verbs() -> None:
    driver: Driver = host()

    assert {name for name, _ in inspect.getmembers(type(driver), inspect.iscoroutinefunction)} >= VERBS
    verbs = {name for name, _ in inspect.getmembers(Driver, inspect.iscoroutinefunction)}
    # A watch does nothing that could take long or fail.
    assert verbs - {"watch_needs"} == VERBS


@pytest.mark.parametrize("verb", sorted(VERBS - {"init_host", "close"}))
async def test_a_verb_before_init_host_is_refused(verb: str) -> None:
    with pytest.raises(DriverError, match=f"cannot {verb}.*init_host"):
        await call(host(guest()), verb)


@pytest.mark.parametrize("verb", sorted(VERBS))
async def test_a_verb_is_recorded_with_what_it_was_asked(verb: str) -> None:
    driver = host(guest(state=PowerState.PAUSED, migrating=True), record=True)
    await driver.init_host("compute-1")

    await call(driver, verb)

    last = driver.calls[-1]
    asked = inspect.signature(getattr(driver, verb)).parameters.keys() - {"guest", "probe", "uuid"}
    # What starts the guest checks its needs before.
    number = 2 + driver.count("needs", last.uuid) - (verb == "needs")
    assert last == Call(number, last.verb, last.uuid, {name: ARGUMENTS[name] for name in asked})
    assert (last.verb, driver.count(last.verb, last.uuid)) == (verb, 2 if verb == "init_host" else 1)


async def test_calls_are_not_kept_unless_asked_for() -> None:
    driver = host(guest())

    await driver.init_host("compute-1")
    await driver.get_info(GUEST)

    assert driver.calls == []
    assert driver.count("get_info") == 1


NEED_A_GUEST = VERBS - {
    "needs",
    *("init_host", "close", "list_instance_uuids", "list_instances", "filter_defer_apply_on"),
    *(
        "get_available_resource",
        "capabilities_as_traits",
        "filter_defer_apply_off",
        "host_needs",
        "keep_filtering_rules",
        "plug_vifs",
        "destroy",
        "keep_disks",
        "delete_kept_disks",
        "check_instance_shared_storage_cleanup",
        "boot_signs",
        "vital_signs",
    ),
}


@pytest.mark.parametrize("verb", sorted(VERBS - {"init_host"}))
async def test_only_what_needs_no_guest_works_without_one(verb: str) -> None:
    driver = host()
    await driver.init_host("compute-1")

    try:
        await call(driver, verb)
        found = True
    except InstanceNotFound:
        found = False

    assert found is (verb not in NEED_A_GUEST)


@pytest.mark.parametrize("verb", ["power_on", "resume_state_on_host_boot", "reboot"])
async def test_a_verb_that_starts_a_guest_checks_what_it_needs_and_one_that_does_not_start_it_does_not(
    verb: Verb,
) -> None:
    driver = host(guest(state=PowerState.SHUTDOWN), guest(2, state=PowerState.PAUSED))
    await driver.init_host("compute-1")
    driver.lacks(GUEST.uuid, SimulatedNeed(name="/dev/sdb"))
    driver.lacks(uuid_of(2), SimulatedNeed(name="/dev/sdb"))

    with pytest.raises(NeedNotMet) as refused:
        await call(driver, verb)
    await driver.resume_state_on_host_boot(driver_guest(2))

    assert [need.name for need in refused.value.needs] == ["/dev/sdb"]
    assert (await driver.get_info(GUEST)).state is PowerState.SHUTDOWN
    assert driver.count("needs", uuid_of(2)) == 0


async def test_a_second_verb_on_a_busy_guest_is_refused_and_a_look_is_not() -> None:
    driver = host(guest(), guest(2))
    await driver.init_host("compute-1")
    hang = Fault(verb="reboot", uuid=GUEST.uuid, hang=True)
    driver.inject(hang)
    stop = partial(driver.power_off, timeout_s=0, retry_interval_s=0)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(driver.reboot, GUEST, RebootType.HARD)
        await driver.entered("reboot", GUEST.uuid)
        with pytest.raises(DriverError, match=f"cannot power_on {GUEST.uuid}: it is busy with reboot"):
            await driver.power_on(GUEST)
        seen = await driver.get_info(GUEST)
        await stop(driver_guest(2))
        driver.lift(hang)
    await stop(GUEST)

    assert seen == GuestInfo(PowerState.RUNNING)
    assert {one.power_state for one in driver.guests.values()} == {PowerState.SHUTDOWN}


async def test_a_guest_is_not_started_where_there_is_no_room() -> None:
    driver = host(guest(), guest(2, PowerState.PAUSED), guest(3, PowerState.SHUTDOWN), room=2)
    await driver.init_host("compute-1")

    with pytest.raises(DriverError, match=r"cannot power_on .*2 guests are running, capacity.running .* is 2"):
        await driver.power_on(driver_guest(3))
    await driver.reboot(driver_guest(1), RebootType.HARD)
    await driver.destroy(driver_guest(2), destroy_disks=False)
    await driver.power_on(driver_guest(3))

    assert driver.guests[uuid_of(3)].power_state is PowerState.RUNNING


async def test_after_close_it_must_be_made_ready_again() -> None:
    driver = host(guest())
    await driver.init_host("compute-1")

    await driver.close()
    with pytest.raises(DriverError, match="init_host"):
        await driver.get_info(GUEST)
    await driver.init_host("compute-1")

    assert await driver.get_info(GUEST) == GuestInfo(PowerState.RUNNING)


def test_two_guests_of_one_uuid_are_refused() -> None:
    with pytest.raises(ValueError, match="same uuid"):
        host(guest(), guest())
