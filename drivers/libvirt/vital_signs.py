"""How guests are after their boot: libvirt's state of each with its reason, its counters, what its disks report."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, Final

from bringup.drivers.base import BootSigns, VitalSigns, VitalState
from bringup.drivers.libvirt.binding import Connection, Domain
from bringup.drivers.libvirt.boot_signs import counters_of, stats_of, unless_gone
from bringup.drivers.libvirt.running_devices import DevicesReader

STATES: Final[tuple[tuple[str, str | None, VitalState], ...]] = (
    ("CRASHED", None, "crashed"),
    ("PAUSED", "PAUSED_IOERROR", "io_error"),
    ("PAUSED", "PAUSED_CRASHED", "crashed"),
    ("PAUSED", "PAUSED_WATCHDOG", "crashed"),
    ("PAUSED", None, "paused"),
    ("PMSUSPENDED", None, "paused"),
    # QEMU has died, or was killed.
    ("SHUTOFF", "SHUTOFF_CRASHED", "crashed"),
    ("SHUTOFF", None, "stopped"),
    ("SHUTDOWN", None, "stopped"),
)
"""By libvirt's state and its reason, the first that fits; None: any.  All others run."""
DISK_ERRORS: Final = {"UNSPEC": "I/O error", "NO_SPACE": "no space left"}


def vital_signs_of(
    connection: Connection, uuids: Collection[str], devices: DevicesReader, libvirt: Any
) -> dict[str, VitalSigns]:
    """Read it.

    :raises libvirtError: it cannot be read.
    """
    found = {}
    for domain, stats in stats_of(connection, uuids, libvirt):
        with unless_gone(libvirt):
            found[domain.UUIDString()] = _of(domain, stats, devices, libvirt)
    return found


def _of(domain: Domain, stats: Mapping[str, Any], devices: DevicesReader, libvirt: Any) -> VitalSigns:
    state = _state(stats["state.state"], stats["state.reason"], libvirt)
    if state in ("stopped", "crashed"):
        return VitalSigns(state)
    found = devices.of(domain)
    boot = BootSigns(counters_of(stats), found.agent)
    # Disks report something only while it is paused for that; to query a QEMU that hangs would keep others waiting.
    errors = _disk_errors(domain, libvirt) if state == "io_error" else ()
    return VitalSigns(state, boot, found.nics, errors, found.disks)


def _state(number: int, reason: int, libvirt: Any) -> VitalState:
    for name, why, state in STATES:
        fits = why is None or getattr(libvirt, f"VIR_DOMAIN_{why}") == reason
        if getattr(libvirt, f"VIR_DOMAIN_{name}") == number and fits:
            return state
    return "running"


def _disk_errors(domain: Domain, libvirt: Any) -> tuple[str, ...]:
    words = {getattr(libvirt, f"VIR_DOMAIN_DISK_ERROR_{name}"): word for name, word in DISK_ERRORS.items()}
    with suppress(libvirt.libvirtError):  # its QEMU is busy: events report the same
        return tuple(f"{disk}: {words.get(code, words[1])}" for disk, code in sorted(domain.diskErrors().items()))
    return ()
