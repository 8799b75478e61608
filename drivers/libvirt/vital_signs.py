"""How guests are after their boot: libvirt's state of each with its reason, its counters, what its disks report."""

from collections.abc import Collection
from contextlib import suppress
from typing import Any, Final

from bringup.drivers.base import BootSigns, VitalSigns, VitalState
from bringup.drivers.libvirt.binding import Connection, Domain
from bringup.drivers.libvirt.boot_signs import signs_of
from bringup.drivers.libvirt.definitions import count_nics

STATES: Final[tuple[tuple[str, str | None, VitalState], ...]] = (
    ("CRASHED", None, "crashed"),
    ("PAUSED", "PAUSED_IOERROR", "io_error"),
    ("PAUSED", "PAUSED_CRASHED", "crashed"),
    ("PAUSED", None, "paused"),
    ("PMSUSPENDED", None, "paused"),
    # QEMU has died, or was killed.
    ("SHUTOFF", "SHUTOFF_CRASHED", "crashed"),
    ("SHUTOFF", "SHUTOFF_FAILED", "crashed"),
    ("SHUTOFF", None, "stopped"),
    ("SHUTDOWN", None, "stopped"),
)
"""By libvirt's state and its reason, the first that fits; None: any.  All others run."""
DISK_ERRORS: Final = {"UNSPEC": "I/O error", "NO_SPACE": "no space left"}


def vital_signs_of(connection: Connection, uuids: Collection[str], libvirt: Any) -> dict[str, VitalSigns]:
    """Read it.

    :raises libvirtError: it cannot be read.
    """
    boots = signs_of(connection, uuids, libvirt)
    found = {}
    for uuid in uuids:
        with suppress(libvirt.libvirtError):  # it is gone
            found[uuid] = _of(connection.lookupByUUIDString(uuid), boots.get(uuid), libvirt)
    return found


def _of(domain: Domain, boot: BootSigns | None, libvirt: Any) -> VitalSigns:
    number, reason = domain.state()
    state = _state(number, reason, libvirt)
    if state in ("stopped", "crashed"):
        return VitalSigns(state)
    # Disks report something only while it is paused for that; to query a QEMU that hangs would keep others waiting.
    errors = _disk_errors(domain, libvirt) if state == "io_error" else ()
    return VitalSigns(state, boot, count_nics(domain.XMLDesc()), errors)


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
