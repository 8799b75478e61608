"""Identity of this boot of the host, and the time since when it is up.

The kernel's boot id names a boot, with two exceptions.  In a system container (systemd-nspawn, LXC) the file that holds
it is overlaid with the container's own, and a unit with ``ProtectProc=`` has a fresh ``/proc`` in which the kernel's
shows again: so the unit passes systemd's value (``%b``).  After ``systemctl soft-reboot`` the kernel is
the same, and all processes are new: systemd counts these since 256, and 254 and 255 report when its user space began.
"""

import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid5

from bringup.daemon.errors import SettingsError
from bringup.daemon.logs import get_logger
from bringup.drivers.environment import output_of
from bringup.drivers.files import read_file
from bringup.drivers.identifiers import uuid_in_any_spelling

log = get_logger()

OF_UNIT = "BRINGUP_BOOT_ID"
"""Environment variable in which the unit passes ``%b``."""
BOOTED_WITH_SYSTEMD = Path("/run/systemd/system")
ASK = ("systemctl", "show", "--property=Version,SoftRebootsCount,UserspaceTimestampMonotonic")
ASK_S = 5.0
COUNTS_SINCE = 256
SOFT_REBOOTS_SINCE = 254


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentBoot:
    """One boot of this host."""

    boot_id: str
    began_s: float | None = None
    """When its user space began, on the monotonic clock; None if unknown."""

    def began_at(self) -> float | None:
        """Return when it began, in seconds since 1970, with the current clock; None if unknown."""
        return None if self.began_s is None else time.time() - (time.monotonic() - self.began_s)


def this_boot(path: Path, *, is_default: bool, environment: Mapping[str, str] = os.environ) -> CurrentBoot:
    """Read which boot it is; ``path`` holds the kernel's id, and overrides the unit's if it was set.

    :raises SettingsError: there is no id to read.
    """
    named = environment.get(OF_UNIT, "").strip()
    kernel_id = named if named and is_default else _read(path)
    properties = _query_systemd()
    began_us = properties.get("UserspaceTimestampMonotonic", "")
    return CurrentBoot(
        boot_id=derive_boot_id(_as_uuid(kernel_id), properties),
        began_s=int(began_us) / 1e6 if began_us.isdecimal() and began_us != "0" else None,
    )


def derive_boot_id(kernel_id: str, properties: Mapping[str, str]) -> str:
    """Return the id of a boot: the kernel's, or after a soft reboot one that is derived from it."""
    count, began_us = properties.get("SoftRebootsCount", ""), properties.get("UserspaceTimestampMonotonic", "")
    version = properties.get("Version", "").partition(".")[0].partition(" ")[0].partition("-")[0].partition("~")[0]
    if count.isdecimal():
        return kernel_id if int(count) == 0 else _after(kernel_id, f"soft-reboot {int(count)}")
    if version.isdecimal() and SOFT_REBOOTS_SINCE <= int(version) < COUNTS_SINCE and began_us.isdecimal():
        return _after(kernel_id, f"user space of {int(began_us)}")
    return kernel_id


def _after(kernel_id: str, what: str) -> str:
    try:
        return str(uuid5(UUID(kernel_id), what))
    except ValueError:
        return f"{kernel_id} {what}"


def _as_uuid(text: str) -> str:
    """Return an id as the kernel writes it; ``%b`` has no dashes."""
    try:
        return uuid_in_any_spelling(text)
    except ValueError:
        return text


def _read(path: Path) -> str:
    try:
        found = read_file(path).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            [f"host.boot_id: {path} cannot be read; name the file with the kernel's boot id"]
        ) from error
    if not found:
        raise SettingsError([f"host.boot_id: {path} is empty; name the file with the kernel's boot id"])
    return found


def _query_systemd() -> dict[str, str]:
    """Query systemd's properties; empty if it has not booted this host, or does not answer."""
    if not BOOTED_WITH_SYSTEMD.is_dir():
        return {}
    try:
        output = output_of(ASK, within_s=ASK_S)
    except (OSError, subprocess.SubprocessError) as error:
        # A soft reboot is not detected then: what was done on the boot before it counts as done on this one.
        log.warning("boot.systemd_not_queried", error=f"{type(error).__name__}: {error}")
        return {}
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
