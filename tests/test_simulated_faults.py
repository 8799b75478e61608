"""Faults strike the calls that they name, as often as they say, and nothing else."""

import anyio
import pytest

from bringup.drivers.base import DriverError, PowerState, RebootType, VirtualInterfacePlugError
from bringup.drivers.simulated import ErrorName, Fault, Scenario, SimulatedDriver
from bringup.drivers.simulated.verbs import ERRORS
from support.drivers import driver_guest, uuid_of
from support.simulated import GUEST, guest, host

pytestmark = pytest.mark.anyio


async def struck(driver: SimulatedDriver, calls: int, number: int = 1) -> list[bool]:
    """Plug VIFs again and again, and tell which calls were struck."""
    told_of = []
    for _ in range(calls):
        try:
            await driver.plug_vifs(driver_guest(number))
            told_of.append(False)
        except VirtualInterfacePlugError:
            told_of.append(True)
    return told_of


@pytest.mark.parametrize(
    ("times", "after", "expected"),
    [
        (None, 0, [True, True, True, True]),
        (1, 0, [True, False, False, False]),
        (2, 1, [False, True, True, False]),
        (None, 3, [False, False, False, True]),
    ],
)
async def test_a_fault_lets_calls_through_first_and_strikes_so_many(
    times: int | None, after: int, expected: list[bool]
) -> None:
    fault = Fault(verb="plug_vifs", error="VirtualInterfacePlugError", times=times, after=after)
    driver = host(guest(), faults=(fault,))
    await driver.init_host("compute-1")

    assert await struck(driver, 4) == expected


async def test_a_fault_for_one_guest_spares_the_others() -> None:
    driver = host(faults=(Fault(verb="plug_vifs", uuid=uuid_of(2), error="VirtualInterfacePlugError"),))
    await driver.init_host("compute-1")

    assert [await struck(driver, 1, number) for number in (1, 2, 3)] == [[False], [True], [False]]


async def test_a_fault_for_any_guest_counts_all_of_them() -> None:
    driver = host(faults=(Fault(verb="plug_vifs", error="VirtualInterfacePlugError", times=1, after=1),))
    await driver.init_host("compute-1")

    assert [await struck(driver, 1, number) for number in (1, 2, 3)] == [[False], [True], [False]]


async def test_a_fault_for_the_guest_comes_before_one_for_any() -> None:
    any_guest = Fault(verb="plug_vifs", error="OSError")
    this_guest = Fault(verb="plug_vifs", uuid=GUEST.uuid, error="VirtualInterfacePlugError", times=1)
    driver = host(faults=(any_guest, this_guest))
    await driver.init_host("compute-1")

    assert await struck(driver, 1) == [True]
    with pytest.raises(OSError, match="cannot plug_vifs"):
        await driver.plug_vifs(GUEST)


@pytest.mark.parametrize("name", list(ERRORS))
async def test_each_error_of_a_scenario_can_be_raised_with_its_message(name: ErrorName) -> None:
    driver = host(guest(), faults=(Fault(verb="get_info", error=name, message="the dog ate it"),))
    await driver.init_host("compute-1")

    expected = type(ERRORS[name]("the dog ate it"))
    with pytest.raises(expected, match=r"^the dog ate it$"):
        await driver.get_info(GUEST)


@pytest.mark.parametrize(
    ("effect", "state"), [("before", PowerState.SHUTDOWN), ("after", PowerState.RUNNING)], ids=["before", "after"]
)
async def test_a_verb_fails_before_its_effect_or_after(effect: str, state: PowerState) -> None:
    fault = Fault(verb="power_on", error="DriverError", effect="after" if effect == "after" else "before")
    driver = host(guest(state=PowerState.SHUTDOWN), faults=(fault,))
    await driver.init_host("compute-1")

    with pytest.raises(DriverError, match=f"cannot power_on {GUEST.uuid}: the scenario has a fault for it"):
        await driver.power_on(GUEST)

    assert driver.guests[GUEST.uuid].power_state is state


async def test_a_call_that_hangs_can_be_cancelled_and_has_changed_nothing() -> None:
    driver = host(guest(), faults=(Fault(verb="reboot", hang=True, times=1),))
    await driver.init_host("compute-1")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(driver.reboot, GUEST, RebootType.HARD)
        await driver.entered("reboot", GUEST.uuid)
        await anyio.wait_all_tasks_blocked()
        assert driver.hypervisor.guests[GUEST.uuid] == guest()
        tasks.cancel_scope.cancel()
    await driver.power_off(GUEST, timeout_s=0, retry_interval_s=0)

    assert driver.guests[GUEST.uuid].power_state is PowerState.SHUTDOWN


async def test_a_hang_continues_once_it_is_lifted_and_strikes_no_more() -> None:
    hang = Fault(verb="power_on", hang=True)
    driver = host(guest(1, PowerState.SHUTDOWN), guest(2, PowerState.SHUTDOWN))
    await driver.init_host("compute-1")
    driver.inject(hang)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(driver.power_on, driver_guest(1))
        await driver.entered("power_on")
        await anyio.wait_all_tasks_blocked()
        before = driver.guests[uuid_of(1)].power_state
        driver.lift(hang)
    await driver.power_on(driver_guest(2))

    assert before is PowerState.SHUTDOWN
    assert {one.power_state for one in driver.guests.values()} == {PowerState.RUNNING}


async def test_a_hang_that_is_lifted_before_it_is_reached_does_not_hang() -> None:
    hang = Fault(verb="power_on", hang=True)
    scenario = Scenario(guests=(guest(1, PowerState.SHUTDOWN),), latency={"power_on": 0.01}, faults=(hang,))
    driver = SimulatedDriver(scenario)
    await driver.init_host("compute-1")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(driver.power_on, GUEST)
        await driver.entered("power_on")
        driver.lift(hang)

    assert driver.guests[GUEST.uuid].power_state is PowerState.RUNNING


async def test_a_verb_of_the_host_can_fail() -> None:
    driver = host(faults=(Fault(verb="init_host", error="OSError", times=1),))

    with pytest.raises(OSError, match="cannot init_host: the scenario"):
        await driver.init_host("compute-1")
    await driver.init_host("compute-1")

    assert driver.count("init_host") == 2


async def test_a_verb_can_be_waited_for_so_many_times() -> None:
    driver = host(guest(), guest(2))
    await driver.init_host("compute-1")
    seen: list[int] = []

    async def wait() -> None:
        await driver.entered("get_info", times=3)
        seen.append(driver.count("get_info"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        for number in (1, 2):
            await driver.get_info(driver_guest(number))
        await anyio.wait_all_tasks_blocked()
        assert seen == []
        await driver.get_info(driver_guest(1))

    assert seen == [3]


@pytest.mark.parametrize("hang", [True, False], ids=["both", "neither"])
def test_a_fault_is_an_error_or_a_hang(hang: bool) -> None:  # noqa: FBT001 - a column of the table
    with pytest.raises(ValueError, match='either "error" or "hang"'):
        Fault(verb="reboot", hang=hang, error="OSError" if hang else None)
