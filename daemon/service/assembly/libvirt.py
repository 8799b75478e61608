"""Driver for libvirt: created from the settings, and checked for conflicts and bottlenecks."""

from importlib.util import find_spec
from pathlib import Path

import anyio
import anyio.to_thread

from bringup.daemon.errors import SettingsError, Unavailable
from bringup.daemon.logs import get_logger
from bringup.daemon.service.assembly.close_driver import close_driver
from bringup.daemon.settings import Settings
from bringup.daemon.settings.model import keys_of
from bringup.drivers.base import DriverError
from bringup.drivers.capacity import Capacity
from bringup.drivers.libvirt.autostart_conflicts import AutostartConflicts, bottlenecks, daemon_limits, is_local
from bringup.drivers.libvirt.binding import NEEDS
from bringup.drivers.libvirt.domains import DefinedGuest
from bringup.drivers.libvirt.driver import LibvirtDriver
from bringup.drivers.libvirt_options import LibvirtOptions
from bringup.drivers.network.host import HostNetwork

log = get_logger()

PLACES = "places.json"
"""Where the state directory remembers what was mounted."""
KVM = Path("/dev/kvm")


def make_libvirt_driver(
    settings: Settings,
    *,
    acting: bool = False,
    network: HostNetwork | None = None,
    capacity: Capacity | None = None,
) -> LibvirtDriver:
    """Create the driver; it is not initialized yet.  Only one that is ``acting`` disables autostart.

    :raises SettingsError: libvirt is not what is set, or libvirt-python is not installed.
    """
    if settings.driver.name != "libvirt":
        raise SettingsError(
            [f'driver.name = "{settings.driver.name}" ({settings.source_of("driver.name")}): give "libvirt"']
        )
    require_binding()
    libvirt = settings.libvirt
    options = LibvirtOptions(
        **dict(keys_of(libvirt)),
        mounts_file=settings.host.state_directory / PLACES,
        may_change=acting,
    )
    return LibvirtDriver(options, network, capacity or Capacity(settings.limits.concurrency, calls=settings.calls))


def require_binding() -> None:
    """Check that libvirt-python is installed, without importing it, which is slow.

    :raises SettingsError: libvirt-python is not installed.
    """
    if find_spec("libvirt") is None:
        raise SettingsError([f'driver.name = "libvirt": {NEEDS}'])


async def findings(settings: Settings, driver: LibvirtDriver) -> tuple[AutostartConflicts, list[str]]:
    """Return what else starts guests here, and which limits of libvirt are below the settings; nothing is changed."""
    conflicts = await driver.autostart_conflicts()
    limits = await anyio.to_thread.run_sync(daemon_limits, settings.libvirt.daemon_config)
    calls = settings.calls
    narrow = bottlenecks(limits, concurrency=calls, connections=settings.libvirt.connections or calls)
    wanting = await driver.guests_that_require_kvm()
    # With the device guests may still fail to use KVM; without it they certainly do.
    if wanting and is_local(settings.libvirt.uri) and not await anyio.to_thread.run_sync(KVM.exists):
        narrow.append(f"{len(wanting)} guests want KVM, and {KVM} is not there: they will not start")
    return conflicts, narrow


async def defined_guests(settings: Settings) -> list[DefinedGuest]:
    """List the guests that libvirt has, by name.

    :raises SettingsError: libvirt is not what is set.
    :raises Unavailable: it could not be asked.
    """
    driver = make_libvirt_driver(settings)
    try:
        with anyio.fail_after(settings.limits.host_deadline):
            await driver.init_host(settings.host.name)
            return await driver.defined_guests()
    except (TimeoutError, DriverError) as error:
        raise Unavailable(f"cannot list the guests of {settings.libvirt.uri}") from error
    finally:
        await close_driver(driver)
