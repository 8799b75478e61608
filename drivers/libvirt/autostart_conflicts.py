"""Who else starts guests on this host, and which limits of libvirt's own stand in the way; only files are read here.

Two that start the same guests are two masters: a guest that was evacuated runs twice before anybody can stop it.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

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
    """What a libvirt daemon does at once; ``max_client_requests`` is not in it, for one call has a connection."""

    max_workers: int = MAX_WORKERS
    """For all of its clients together."""
    source: Path | None = None
    """The file that was read; None: these are libvirt's defaults."""


def is_local(uri: str) -> bool:
    """Tell whether a URI is that of this host's own daemon."""
    return not urlsplit(uri).hostname and uri.partition(":")[0] not in ("test", "")


def daemon_limits(config: Path | None, *, root: Path = Path("/")) -> DaemonLimits:
    """Read the limits of the daemon: of ``config``, else of the first of its files that is there."""
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
    """Name what the daemon asks of each call whether it is allowed: "polkit"; empty, as by default: nothing."""
    for path in [root / name for name in DAEMONS] if config is None else [config]:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        found = _ACCESS.findall(text)
        # One that is there is the daemon's, or nobody's.
        return tuple(word.strip().strip("\"'") for word in found[-1].split(",") if word.strip()) if found else ()
    return ()


def bottlenecks(limits: DaemonLimits, *, concurrency: int, connections: int) -> list[str]:
    """Say what keeps libvirt from doing as much at once as is asked of it."""
    found = []
    if concurrency > connections:
        found.append(
            f"limits.concurrency = {concurrency} is more than libvirt.connections = {connections}, "
            f"and each has one call at a time: leave libvirt.connections out, or set it to {concurrency}"
        )
    if concurrency > limits.max_workers:
        source = f"in {limits.source}" if limits.source else "libvirt's default"
        found.append(
            f"limits.concurrency = {concurrency} is more than libvirt does at once (max_workers = "
            f"{limits.max_workers}, {source}): raise that, or lower limits.concurrency"
        )
    return found


def libvirt_guests(*, root: Path = Path("/")) -> str | None:
    """Say that libvirt-guests starts guests at boot, where it is enabled and told to; None: it does not."""
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
    """Say that libvirt (11.2 or newer) starts at boot what it shut down itself; None: it does not."""
    path = root / QEMU_CONF
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    done = [f'{key} = "{value}"' for key, value in dict(_AUTO_SHUTDOWN.findall(text)).items() if value != "none"]
    restore = _AUTO_RESTORE.findall(text)
    # It is on where nothing is said.
    if not done or (restore and int(restore[-1]) == 0):
        return None
    return (
        f"libvirt stops guests when the host shuts down and starts them again at boot ({path}: {', '.join(done)}, "
        "auto_shutdown_restore is not 0): set auto_shutdown_restore = 0"
    )


def _on_boot(root: Path) -> str:
    """Tell what libvirt-guests.sh does at boot: its settings come after what the script itself begins with."""
    value = "start"
    for name in (*GUESTS_SCRIPTS, *GUESTS_SETTINGS):
        try:
            found = _ON_BOOT.search((root / name).read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
        if found:
            value = found[1]
    return value
