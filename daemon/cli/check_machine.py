"""Checks of this machine: libvirt, PCI devices, the status processes' confinement, the state directory."""

import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator

import anyio
import anyio.to_thread

from bringup.daemon.cli.check_finding import Finding, Status
from bringup.daemon.errors import BringupError, Refused, chain_of
from bringup.daemon.service import assembly
from bringup.daemon.service.assembly.libvirt import findings, make_libvirt_driver
from bringup.daemon.settings import Settings
from bringup.daemon.settings.pci import sysfs
from bringup.daemon.status.endpoint.listeners import COMMAND, environment
from bringup.daemon.status.endpoint.unconfined import describe
from bringup.daemon.status.listener.start import TELL
from bringup.daemon.storage import state_directory
from bringup.daemon.storage.journal.history import NewerJournal, damage
from bringup.drivers.base import DriverError
from bringup.drivers.libvirt.autostart_conflicts import access_drivers, is_local

CONFINEMENT_DEADLINE_S = 30.0
NO_JOURNAL = (
    "a run continues without a journal and holds what must be recorded first (destroying, deleting, rebooting, "
    "resuming)"
)


async def libvirt_finding(settings: Settings) -> Finding | None:
    """Check for other autostart mechanisms and low limits; None if libvirt does not answer."""
    driver = make_libvirt_driver(settings)
    try:
        with anyio.fail_after(settings.limits.host_deadline):
            await driver.init_host(settings.host.name)
            conflicts, narrow = await findings(settings, driver)
    except (TimeoutError, OSError, DriverError):
        return None
    finally:
        await assembly.close_driver(driver)
    libvirt = settings.libvirt
    access = await anyio.to_thread.run_sync(access_drivers, libvirt.daemon_config) if is_local(libvirt.uri) else ()
    facts = {
        "uri": libvirt.uri,
        "autostart_conflicts": conflicts.sentences,
        "bottlenecks": narrow,
        "access_drivers": list(access),
    }
    sentences = [*conflicts.sentences, *narrow]
    if conflicts.autostart and libvirt.autostart == "take_over":
        disabled = "a run disables that (libvirt.autostart = take_over)"
        sentences = [conflicts.autostart, disabled, *conflicts.foreign, *narrow]
    message = "; ".join(sentences)
    if conflicts.refused(libvirt.autostart):
        return Finding("libvirt", Status.FAILED, f"a run is refused: {message}", exit_code=Refused.exit_code)
    if message:
        return Finding("libvirt", Status.WARNING, message, facts)
    control = f"access control: {', '.join(access) or 'none'} (docs/safety.md)"
    return Finding("libvirt", Status.OK, f"{libvirt.uri}: no other autostart mechanism found; {control}", facts)


def pci_finding(
    settings: Settings, *, address_of_interface: Callable[[str], str | None] = sysfs.address_of_interface
) -> Finding | None:
    """Check each network interface that ``[pci] device_spec`` names; None if it names none."""
    named = [spec.devname for spec in settings.pci.device_spec if spec.devname is not None]
    if not named:
        return None
    missing = [name for name in dict.fromkeys(named) if address_of_interface(name) is None]
    facts = {"devnames": named, "missing": missing}
    if not missing:
        return Finding("pci", Status.OK, f"pci.device_spec: all {len(named)} interfaces that it names are here", facts)
    sentences = [
        f'pci.device_spec: devname "{name}" is no network interface of a PCI device on this host and matches '
        "nothing (Nova fails at the first match); set its current name or its address"
        for name in missing
    ]
    return Finding("pci", Status.WARNING, "; ".join(sentences), facts)


async def confinement_finding(settings: Settings) -> Finding | None:
    """Start a process of the status endpoint that exits at once; None if it is fully confined, or not enabled."""
    if not settings.status.enabled:
        return None
    try:
        with anyio.fail_after(CONFINEMENT_DEADLINE_S):
            ended = await anyio.run_process(
                [*COMMAND, TELL],
                stderr=subprocess.DEVNULL,
                env=environment(),
                cwd="/",
                # It lowers the scheduling priority of its session.
                start_new_session=True,
            )
        lacks: dict[str, str] = json.loads(ended.stdout)
    except (OSError, ValueError, TimeoutError, subprocess.CalledProcessError) as error:
        message = f"cannot start a process of the status endpoint: {type(error).__name__}: {error}"
        return Finding("status", Status.WARNING, message)
    if not lacks:
        return None
    reasons, means = describe(lacks)
    message = f"the processes of the status endpoint are not fully confined ({reasons}): {means}"
    return Finding("status", Status.WARNING, message, {"lacks": list(lacks)})


def state_directory_warnings(settings: Settings) -> Iterator[str]:
    """Return a sentence for each fault of the state directory, which is not created.

    :raises NewerJournal: a run would refuse the journal.
    """
    directory = settings.host.state_directory
    if not directory.is_dir():
        return
    if state_directory.is_read_only(directory):
        yield f"{directory} cannot be written ({os.strerror(errno.EROFS)}): {NO_JOURNAL}"
    elif reason := _full(settings):
        yield f"{directory} cannot be written ({reason}): {NO_JOURNAL}"
    elif reason := state_directory.without_locks(directory):
        yield f"{directory} is on a file system without locks ({reason}): {NO_JOURNAL}; use a local file system"
    path = directory / assembly.JOURNAL
    try:
        if (found := damage(path)) is not None:
            yield f"the journal {path} is damaged ({found}): the next start moves it aside and uses the records alone"
    except NewerJournal:
        raise
    except BringupError as error:
        yield chain_of(error)


def _full(settings: Settings) -> str | None:
    found = os.statvfs(settings.host.state_directory)
    # Some file systems have no fixed number of files.
    no_files = found.f_files > 0 and found.f_favail == 0
    return "No space left on device" if found.f_bavail == 0 or no_files else None
