"""What else starts guests on this host, and which limits of libvirt's own are too low.

Where two programs start the same guests, a guest that was evacuated runs twice before anybody can stop it.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import structlog

from bringup.drivers.errors import AutostartConflict
from bringup.drivers.libvirt.binding import Connection, Domain
from bringup.drivers.libvirt_options import Autostart

log = structlog.get_logger()

REMEDY: Final = 'disable that, or set libvirt.autostart to "take_over" (libvirt\'s autostart only) or "warn"'
# libvirt's default (libvirtd.conf, virtqemud.conf).
MAX_WORKERS: Final = 20
_MAX_WORKERS = re.compile(r"^\s*max_workers\s*=\s*(\d+)\s*(?:#.*)?$", re.MULTILINE)
_ACCESS = re.compile(r"^\s*access_drivers\s*=\s*\[([^\]]*)\]", re.MULTILINE)
_ON_BOOT = re.compile(r"^\s*ON_BOOT=['\"]?(\w+)", re.MULTILINE)
# What libvirt-guests.sh does where nothing is set: upstream starts, Debian's own file says so in a comment.
GUESTS_SETTINGS: Final = ("etc/default/libvirt-guests", "etc/sysconfig/libvirt-guests", "etc/conf.d/libvirt-guests")
GUESTS_SCRIPTS: Final = ("usr/lib/libvirt/libvirt-guests.sh", "usr/libexec/libvirt-guests.sh")
QEMU_CONF: Final = "etc/libvirt/qemu.conf"
# What is done with guests when the host shuts down; by default nothing, for a daemon of the system.
_AUTO_SHUTDOWN = re.compile(
    r"""^\s*(auto_shutdown_(?:try_save|try_shutdown|poweroff))\s*=\s*["'](\w+)["']""", re.MULTILINE
)
_AUTO_RESTORE = re.compile(r"^\s*auto_shutdown_restore\s*=\s*(\d+)", re.MULTILINE)
DAEMONS: Final = ("etc/libvirt/virtqemud.conf", "etc/libvirt/libvirtd.conf")


@dataclass(frozen=True, slots=True)
class DaemonLimits:
    """Limits of a libvirt daemon; without ``max_client_requests``, since each call has a connection of its own."""

    max_workers: int = MAX_WORKERS
    """For all of its clients together."""
    source: Path | None = None
    """The file that was read; None: these are libvirt's defaults."""


@dataclass(frozen=True, slots=True)
class AutostartConflicts:
    """What else starts the guests of this host at boot, one sentence each; None: it does not."""

    autostart: str | None
    """libvirt's own autostart; the only one that bringup can disable."""
    libvirt_guests: str | None
    auto_restore: str | None = None

    @property
    def sentences(self) -> list[str]:
        """All conflicts."""
        return [sentence for sentence in (self.autostart, *self.foreign) if sentence]

    @property
    def foreign(self) -> list[str]:
        """Conflicts that only an operator can resolve."""
        return [sentence for sentence in (self.libvirt_guests, self.auto_restore) if sentence]

    def resolve(self, policy: Autostart, host: str) -> bool:
        """Return whether libvirt's autostart is to be disabled.

        :raises AutostartConflict: a run on ``host`` is refused.
        """
        if refused := self.refused(policy):
            raise AutostartConflict(
                f"{'; '.join(refused)}: on {host} two programs would start the same guests; {REMEDY}"
            )
        return policy == "take_over" and self.autostart is not None

    def warn(self) -> None:
        """Log each conflict."""
        for conflict in self.sentences:
            log.warning("libvirt.autostart_conflict", error=conflict)

    def refused(self, policy: Autostart) -> list[str]:
        """Return the conflicts for which ``libvirt.autostart`` refuses a run."""
        if policy == "take_over":
            return self.foreign
        return self.sentences if policy == "refuse" else []


def find_conflicts(autostarted: list[str], uri: str) -> AutostartConflicts:
    """Return what else starts guests: libvirt itself (``autostarted``: names), and services of this host."""
    local = is_local(uri)
    return AutostartConflicts(
        f"libvirt starts {_several(autostarted)} itself (autostart)" if autostarted else None,
        libvirt_guests() if local else None,
        auto_restore() if local else None,
    )


def autostarted_names(connection: Connection, libvirt: Any) -> list[str]:
    """Return the names of the guests that libvirt starts: at each boot, or (libvirt 11.2) at the next one; blocks."""
    found = _autostarted(connection, libvirt)
    return sorted(f"{domain.name()} (once)" if once else domain.name() for domain, once in found)


def disable_autostart(connection: Connection, libvirt: Any) -> None:
    """Disable libvirt's autostart of all guests; blocks."""
    for domain, once in _autostarted(connection, libvirt):
        domain.setAutostartOnce(0) if once else domain.setAutostart(0)


def _autostarted(connection: Connection, libvirt: Any) -> list[tuple[Domain, bool]]:
    """Return the guests that libvirt starts, and for each whether only at the next boot."""
    found = [(domain, False) for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART)]
    always = {domain.UUIDString() for domain, _ in found}
    others = (domain for domain in connection.listAllDomains() if domain.UUIDString() not in always)
    return [*found, *((domain, True) for domain in others if starts_once(domain, libvirt.libvirtError))]


def starts_once(domain: Domain, error: type[Exception]) -> bool:
    """Check whether libvirt starts a guest at the next boot only; False if its library or daemon is too old."""
    ask = getattr(domain, "autostartOnce", None)
    if ask is None:
        return False
    try:
        return bool(ask())
    except error:
        # An older daemon, a guest that is gone meanwhile, or a transient one.
        return False


def is_local(uri: str) -> bool:
    """Check whether a URI is that of this host's own daemon."""
    return not urlsplit(uri).hostname and uri.partition(":")[0] not in ("test", "")


def daemon_limits(config: Path | None, *, root: Path = Path("/")) -> DaemonLimits:
    """Read the limits of the daemon from ``config``, or else from the first of its files that exists."""
    candidates = [root / name for name in DAEMONS] if config is None else [config]
    for path in candidates:
        try:
            found = _MAX_WORKERS.findall(path.read_text(encoding="utf-8"))
        except OSError:
            continue
        if found:
            return DaemonLimits(max_workers=int(found[-1]), source=path)
    return DaemonLimits()


def access_drivers(config: Path | None, *, root: Path = Path("/")) -> tuple[str, ...]:
    """Return the names of the daemon's access drivers, such as "polkit"; empty, as by default: it has none."""
    for path in [root / name for name in DAEMONS] if config is None else [config]:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        found = _ACCESS.findall(text)
        # The first file that exists is the daemon's.
        return tuple(word.strip().strip("\"'") for word in found[-1].split(",") if word.strip()) if found else ()
    return ()


def bottlenecks(limits: DaemonLimits, *, concurrency: int, connections: int) -> list[str]:
    """Return one sentence for each limit that is below what the settings require of libvirt."""
    found = []
    if concurrency > connections:
        found.append(
            f"limits.concurrency = {concurrency} is more than libvirt.connections = {connections}, "
            f"and each has one call at a time: remove libvirt.connections, or set it to {concurrency}"
        )
    if concurrency > limits.max_workers:
        source = f"in {limits.source}" if limits.source else "libvirt's default"
        found.append(
            f"limits.concurrency = {concurrency} is more than libvirt does at once (max_workers = "
            f"{limits.max_workers}, {source}): raise that, or lower limits.concurrency"
        )
    return found


def libvirt_guests(*, root: Path = Path("/")) -> str | None:
    """Return a sentence if libvirt-guests is enabled and starts guests at boot; None: it does not."""
    units = root / "etc/systemd/system"
    # Not by its whole name: a link that leads nowhere, as from a container, would not be found.
    wanted = [path for path in units.glob("*.wants/*") if path.name == "libvirt-guests.service"]
    enabled = [*wanted, *(root / "etc/rc2.d").glob("S*libvirt-guests")]
    if not enabled or _on_boot(root) != "start":
        return None
    return (
        f"libvirt-guests is enabled ({enabled[0]}) and starts guests at boot, one after the other: "
        "set ON_BOOT=ignore, or systemctl disable libvirt-guests"
    )


def auto_restore(*, root: Path = Path("/")) -> str | None:
    """Return a sentence if libvirt (11.2 or newer) starts at boot what it shut down itself; None: it does not."""
    path = root / QEMU_CONF
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    done = [f'{key} = "{value}"' for key, value in dict(_AUTO_SHUTDOWN.findall(text)).items() if value != "none"]
    restore = _AUTO_RESTORE.findall(text)
    # It is on by default.
    if not done or (restore and int(restore[-1]) == 0):
        return None
    return (
        f"libvirt stops guests when the host shuts down and starts them again at boot ({path}: {', '.join(done)}, "
        "auto_shutdown_restore is not 0): set auto_shutdown_restore = 0"
    )


def _on_boot(root: Path) -> str:
    """Return what libvirt-guests.sh does at boot: its settings override the value at the top of the script."""
    value = "start"
    for name in (*GUESTS_SCRIPTS, *GUESTS_SETTINGS):
        try:
            found = _ON_BOOT.search((root / name).read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
        if found:
            value = found[1]
    return value


def _several(names: list[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
