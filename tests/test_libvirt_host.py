"""Resources of the host, and other autostart mechanisms on it."""

import os

import os_traits
import pytest

from bringup.drivers.base import (
    AutostartConflict,
    PowerState,
)
from support.drivers import driver_guest, uuid_of
from support.libvirt_drivers import a_driver, guests
from support.libvirtd import Libvirtd, the_libvirtd

pytestmark = pytest.mark.anyio

GUEST, UUID = driver_guest(1), uuid_of(1)


@pytest.fixture
def server() -> Libvirtd:
    return the_libvirtd()


SHUTDOWN = PowerState.SHUTDOWN


async def test_what_the_host_has_is_what_it_has(server: Libvirtd) -> None:
    async with a_driver(server) as driver:
        resource = await driver.get_available_resource()
        traits = await driver.capabilities_as_traits()

    found = os.statvfs(server.directory)
    assert resource.local_gb == found.f_frsize * found.f_blocks // 1024**3
    assert resource.vcpus >= 1
    assert resource.memory_mb > 256
    assert {"COMPUTE_STORAGE_BUS_IDE", "COMPUTE_STORAGE_BUS_VIRTIO"} <= traits
    assert traits <= set(os_traits.get_traits())


@pytest.mark.parametrize("autostart", ["refuse", "warn", "take_over"])
async def test_autostart_conflicts_are_refused_warned_of_or_disabled(server: Libvirtd, autostart: str) -> None:
    with guests(server, [SHUTDOWN]) as connection:
        domain = connection.lookupByUUIDString(UUID)
        domain.setAutostart(1)
        if autostart == "refuse":
            with pytest.raises(AutostartConflict, match=GUEST.name):
                async with a_driver(server, autostart=autostart):
                    pass
        else:
            async with a_driver(server, autostart=autostart) as driver:
                assert bool((await driver.autostart_conflicts()).autostart) is (autostart == "warn")
        assert bool(domain.autostart()) is (autostart != "take_over")


async def test_a_check_disables_no_autostart(server: Libvirtd) -> None:
    with guests(server, [SHUTDOWN]) as connection:
        domain = connection.lookupByUUIDString(UUID)
        domain.setAutostart(1)
        async with a_driver(server, autostart="take_over", may_change=False) as driver:
            assert (await driver.autostart_conflicts()).autostart is not None
        assert domain.autostart()
