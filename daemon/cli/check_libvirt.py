"""What ``bringup check`` says of libvirt: who else starts guests on this host, what is too narrow, what it may do."""

import anyio
import anyio.to_thread

from bringup.daemon.cli.check_finding import Finding, Status
from bringup.daemon.errors import Refused
from bringup.daemon.service import assembly
from bringup.daemon.service.assembly.libvirt import findings, make_libvirt_driver
from bringup.daemon.settings import Settings
from bringup.drivers.base import DriverError
from bringup.drivers.libvirt import access_drivers, is_local


async def libvirt_finding(settings: Settings) -> Finding | None:
    """Ask libvirt and look at its files; None where it could not be asked: the check of the driver has said so."""
    driver = make_libvirt_driver(settings)
    try:
        with anyio.fail_after(settings.limits.host_deadline):
            await driver.init_host(settings.host.name)
            masters, narrow = await findings(settings, driver)
    except (TimeoutError, OSError, DriverError):
        return None
    finally:
        await assembly.close_driver(driver)
    libvirt = settings.libvirt
    asked = await anyio.to_thread.run_sync(access_drivers, libvirt.daemon_config) if is_local(libvirt.uri) else ()
    facts = {
        "uri": libvirt.uri,
        "other_masters": masters.sentences,
        "bottlenecks": narrow,
        "access_drivers": list(asked),
    }
    told = [*masters.sentences, *narrow]
    if masters.autostart and libvirt.autostart == "take_over":
        told = [masters.autostart, "run switches that off (libvirt.autostart = take_over)", *masters.foreign, *narrow]
    message = "; ".join(told)
    if masters.refused(libvirt.autostart):
        return Finding("libvirt", Status.FAILED, f"run is refused: {message}", exit_code=Refused.exit_code)
    if message:
        return Finding("libvirt", Status.WARNING, message, facts)
    access = f"access control: {', '.join(asked) or 'none'} (docs/safety.md)"
    return Finding("libvirt", Status.OK, f"{libvirt.uri}: nobody else starts guests here; {access}", facts)
