"""What the simulated host was survives the death of its process."""

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import anyio
import pytest

from bringup.drivers.base import DriverError, PowerState, RebootType
from bringup.drivers.simulated import Fault, Scenario, ScenarioError, SimulatedDriver, Uniform
from support.drivers import driver_guest, uuid_of
from support.simulated import GUEST, call, guest

pytestmark = pytest.mark.anyio


async def ready(scenario: Scenario, path: Path) -> SimulatedDriver:
    driver = SimulatedDriver(scenario, state_path=path)
    await driver.init_host("compute-1")
    return driver


async def test_guests_are_as_they_were_left_and_the_scenario_is_not_played_again(tmp_path: Path) -> None:
    scenario = Scenario(guests=(guest(), guest(2), guest(3, PowerState.SHUTDOWN), guest(4), guest(5)))
    left = await ready(scenario, tmp_path / "host")
    await left.power_off(driver_guest(1), timeout_s=0, retry_interval_s=0)
    await left.destroy(driver_guest(2), destroy_disks=True)
    await left.power_on(driver_guest(3))
    left.guest_stops_itself(uuid_of(4))
    await left.destroy(driver_guest(9), destroy_disks=False)

    # The first is never closed: it died.
    found = await ready(scenario, tmp_path / "host")

    assert found.scenario_now() == left.scenario_now() != scenario
    assert found.hypervisor.active == left.hypervisor.active == 2
    assert found.hypervisor.disks_destroyed == {uuid_of(2)}
    assert found.hypervisor.disks_kept == {uuid_of(9)}


async def test_counts_and_draws_continue_where_they_were(tmp_path: Path) -> None:
    scenario = Scenario(guests=(guest(),), latency={"reboot": Uniform(0, 1e-6)})
    first = await ready(scenario, tmp_path / "host")
    await first.reboot(GUEST, RebootType.HARD)

    second = await ready(scenario, tmp_path / "host")
    await second.reboot(GUEST, RebootType.HARD)

    assert second.count("reboot", GUEST.uuid) == second.done("reboot", GUEST.uuid) == 2
    assert second.count("init_host") == second.done("init_host") == 2


async def test_a_spent_fault_stays_spent(tmp_path: Path) -> None:
    scenario = Scenario(guests=(guest(),), faults=(Fault(verb="power_on", error="DriverError", after=1, times=1),))
    first = await ready(scenario, tmp_path / "host")
    await first.power_on(GUEST)
    with pytest.raises(DriverError):
        await first.power_on(GUEST)

    second = await ready(scenario, tmp_path / "host")
    await second.power_on(GUEST)
    await second.power_on(GUEST)

    assert (second.count("power_on"), second.done("power_on", GUEST.uuid)) == (4, 3)


@pytest.mark.parametrize(
    ("fault", "done"),
    [
        (Fault(verb="reboot", hang=True), 0),
        (Fault(verb="reboot", hang=True, effect="after"), 1),
    ],
    ids=["before its effect", "after its effect"],
)
async def test_a_call_that_died_is_entered_and_done_only_after_its_effect(
    tmp_path: Path, fault: Fault, done: int
) -> None:
    scenario = Scenario(guests=(guest(),), faults=(fault,))
    first = await ready(scenario, tmp_path / "host")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.reboot, GUEST, RebootType.HARD)
        await first.entered("reboot")
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()

    second = await ready(scenario, tmp_path / "host")

    assert second.count("reboot", GUEST.uuid) == 1
    assert second.done("reboot", GUEST.uuid) == done


def test_without_a_state_file_it_cannot_tell_what_was_done() -> None:
    with pytest.raises(ValueError, match="has no state_path"):
        SimulatedDriver(Scenario()).done("reboot", GUEST.uuid)


def test_a_file_that_is_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("not a database, " * 100)

    with pytest.raises(ScenarioError, match="cannot be used as the state of a simulated host"):
        SimulatedDriver(Scenario(), state_path=path)

    assert path.read_text() == "not a database, " * 100


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="gone/host: cannot be used as the state"):
        SimulatedDriver(Scenario(), state_path=tmp_path / "gone" / "host")


NONE = (None, "x", "", b"\xff", -1, 10**18, 1.5, "[" * 100_000, b"[" * 100_000, b'{"uuid":7}', b"null", b"\0" * 100_000)
CELLS = {
    "guests": ("uuid", "document", "disks"),
    "counts": ("verb", "uuid", "entered", "done"),
    "faults": ("position", "passed", "struck"),
}


@pytest.mark.parametrize(("table", "column"), [(table, column) for table in CELLS for column in CELLS[table]])
async def test_a_value_that_is_none_is_refused_or_does_no_harm(table: str, column: str, tmp_path: Path) -> None:
    scenario = Scenario(
        guests=(guest(),), faults=(Fault(verb="reboot", uuid=GUEST.uuid, error="DriverError", times=2),)
    )
    for number, value in enumerate(NONE):
        path = tmp_path / f"{number}"
        with suppress(DriverError):
            await use(SimulatedDriver(scenario, state_path=path))
        with closing(sqlite3.connect(path)) as database, suppress(sqlite3.IntegrityError), database:
            database.execute(f"UPDATE {table} SET {column} = ?", (value,))  # noqa: S608 - of the list above
        with suppress(ScenarioError, DriverError):
            await use(SimulatedDriver(scenario, state_path=path))


async def use(driver: SimulatedDriver) -> None:
    await driver.init_host("compute-1")
    await call(driver, "reboot")


def test_a_guest_of_another_version_is_refused(tmp_path: Path) -> None:
    SimulatedDriver(Scenario(guests=(guest(),)), state_path=tmp_path / "host")
    with closing(sqlite3.connect(tmp_path / "host")) as database, database:
        database.execute("UPDATE guests SET document = '{}'")

    with pytest.raises(ScenarioError, match="has a guest that this version cannot read"):
        SimulatedDriver(Scenario(guests=(guest(),)), state_path=tmp_path / "host")


def test_what_is_no_file_is_refused_as_state_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "state.sqlite")
    with pytest.raises(ScenarioError, match=r"cannot be used as the state of a simulated host: .* is no file"):
        SimulatedDriver(Scenario(), state_path=tmp_path / "state.sqlite")
