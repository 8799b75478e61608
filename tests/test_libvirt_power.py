"""Power of real guests: those that follow, ignore, sleep, crash, and those that are not there."""

from pathlib import Path

import anyio
import pytest

from bringup.drivers.base import DriverError, InstanceNotFound, PowerState, RebootType, Transition
from bringup.drivers.needs import NeedNotMet
from support.drivers import driver_guest, uuid_of
from support.libvirt_drivers import EventRecorder, a_driver, guests, id_of, until_power_state
from support.libvirtd import Libvirtd, the_libvirtd

pytestmark = pytest.mark.anyio

GUEST, UUID = driver_guest(1), uuid_of(1)


@pytest.fixture
def server() -> Libvirtd:
    return the_libvirtd()


RUNNING, PAUSED, SHUTDOWN = PowerState.RUNNING, PowerState.PAUSED, PowerState.SHUTDOWN
CRASHED, SUSPENDED = PowerState.CRASHED, PowerState.SUSPENDED


async def test_a_guest_that_responds_to_acpi_is_shut_down_cleanly(server: Libvirtd) -> None:
    with guests(server, [RUNNING], guest="acpi"):
        async with a_driver(server) as driver:
            heard = EventRecorder(driver)
            with anyio.fail_after(50):
                await driver.power_off(GUEST, timeout_s=60, retry_interval_s=0.2)

            assert (await driver.get_info(GUEST)).state is SHUTDOWN
            await heard.until(Transition.STOPPED)


async def test_a_guest_that_ignores_acpi_is_off_when_its_time_is_up(server: Libvirtd) -> None:
    with guests(server, [RUNNING]):
        async with a_driver(server) as driver:
            began = anyio.current_time()
            await driver.power_off(GUEST, timeout_s=0.5, retry_interval_s=0.1)
            took_s = anyio.current_time() - began

            assert (await driver.get_info(GUEST)).state is SHUTDOWN
    assert took_s >= 0.5


async def test_a_paused_guest_is_not_waited_for(server: Libvirtd) -> None:
    with guests(server, [PAUSED]):
        async with a_driver(server) as driver:
            with anyio.fail_after(50):
                await driver.power_off(GUEST, timeout_s=600, retry_interval_s=10)

            assert (await driver.get_info(GUEST)).state is SHUTDOWN


@pytest.mark.parametrize(("kind", "soft_reboot_s"), [("acpi", 60), ("halt", 0.3)], ids=["follows", "ignores"])
async def test_a_soft_reboot_restarts_a_guest_that_responds_or_not(
    server: Libvirtd, kind: str, soft_reboot_s: float
) -> None:
    with guests(server, [RUNNING], guest=kind) as connection:
        before = id_of(connection)
        async with a_driver(server, wait_soft_reboot=soft_reboot_s) as driver:
            with anyio.fail_after(50):
                await driver.reboot(GUEST, RebootType.SOFT)

            assert (await driver.get_info(GUEST)).state is RUNNING
            assert id_of(connection) != before


async def test_a_managed_save_is_restored_at_boot(server: Libvirtd) -> None:
    with guests(server, [RUNNING]) as connection:
        domain = connection.lookupByUUIDString(UUID)
        domain.managedSave()
        async with a_driver(server) as driver:
            assert (await driver.get_info(GUEST)).state is SHUTDOWN
            [defined] = await driver.defined_guests()
            assert defined.saved
            await driver.resume_state_on_host_boot(GUEST)

            assert (await driver.get_info(GUEST)).state is RUNNING
            assert not domain.hasManagedSaveImage()
            # Libvirt says where the life of a guest comes from: VIR_DOMAIN_RUNNING_RESTORED.
            assert domain.state()[1] in (3, 5)


async def test_a_hard_reboot_discards_a_managed_save(server: Libvirtd) -> None:
    with guests(server, [RUNNING]) as connection:
        domain = connection.lookupByUUIDString(UUID)
        domain.managedSave()
        async with a_driver(server) as driver:
            await driver.reboot(GUEST, RebootType.HARD)

            assert (await driver.get_info(GUEST)).state is RUNNING
            assert not domain.hasManagedSaveImage()
            assert domain.state()[1] == 1  # VIR_DOMAIN_RUNNING_BOOTED


@pytest.mark.parametrize("verb", ["unpause", "power_on"])
async def test_a_suspended_guest_is_left_alone_at_boot_and_resumes_on_request(server: Libvirtd, verb: str) -> None:
    with guests(server, [RUNNING], guest="sleep") as connection:
        before = id_of(connection)
        async with a_driver(server) as driver:
            await until_power_state(driver, SUSPENDED)
            await driver.resume_state_on_host_boot(GUEST)
            assert (await driver.get_info(GUEST)).state is SUSPENDED

            await getattr(driver, verb)(GUEST)

            await until_power_state(driver, RUNNING)
            assert id_of(connection) == before


async def test_a_guest_that_crashed_is_started_again_at_boot(server: Libvirtd) -> None:
    with guests(server, [RUNNING], guest="panic") as connection:
        before = id_of(connection)
        async with a_driver(server) as driver:
            await until_power_state(driver, CRASHED)
            await driver.resume_state_on_host_boot(GUEST)

            assert id_of(connection) != before


async def test_a_guest_with_a_missing_disk_is_not_started_and_the_disk_named(server: Libvirtd) -> None:
    with guests(server, [SHUTDOWN], disk=Path("/nonexistent/disk.qcow2")):
        async with a_driver(server) as driver:
            with pytest.raises(NeedNotMet) as raised:
                await driver.resume_state_on_host_boot(GUEST)

            assert str(raised.value) == f"did not start {UUID}: disk /nonexistent/disk.qcow2: no such file"
            assert (await driver.get_info(GUEST)).state is SHUTDOWN


@pytest.mark.parametrize(
    "verb", ["power_on", "resume_state_on_host_boot", "live_migration_abort", "post_interrupted_snapshot_cleanup"]
)
async def test_a_record_without_a_domain_is_not_found_and_nothing_is_defined(server: Libvirtd, verb: str) -> None:
    with guests(server, []) as connection:
        async with a_driver(server) as driver:
            with pytest.raises(InstanceNotFound):
                await getattr(driver, verb)(GUEST)

            assert connection.listAllDomains() == []


async def test_a_guest_that_does_not_migrate_has_nothing_to_abort(server: Libvirtd) -> None:
    with guests(server, [RUNNING]):
        async with a_driver(server) as driver:
            with pytest.raises(DriverError):
                await driver.live_migration_abort(GUEST)


async def test_a_guest_without_a_definition_keeps_one_when_it_is_restarted(server: Libvirtd) -> None:
    with guests(server, [RUNNING]) as connection:
        connection.lookupByUUIDString(UUID).undefine()
        async with a_driver(server) as driver:
            await driver.reboot(GUEST, RebootType.HARD)

            assert (await driver.get_info(GUEST)).state is RUNNING
        assert connection.lookupByUUIDString(UUID).isPersistent()
