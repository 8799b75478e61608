"""Options of the driver for libvirt."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from annotated_types import Ge, Le, Predicate

from bringup.drivers.kinds import Concurrency, Right, Seconds

Autostart = Literal["refuse", "warn", "take_over"]


def is_libvirt_uri(text: str) -> bool:
    """Check whether libvirt could open it; a password would be shown in messages."""
    scheme, separator, rest = text.partition(":")
    visible = all("!" <= character <= "~" for character in text)
    return bool(separator and scheme and rest.startswith("/") and visible) and urlsplit(text).password is None


def is_mount_point(text: str) -> bool:
    """Check whether it is ``auto``, ``none`` or an absolute path other than the root."""
    return text in ("auto", "none") or (text.startswith("/") and text.strip("/") != "" and "\0" not in text)


LibvirtUri = Annotated[
    str, Predicate(is_libvirt_uri), Right('a URI of libvirt such as "qemu:///system", with no password in it')
]
MountPoint = Annotated[str, Predicate(is_mount_point), Right('"auto", "none", or the absolute path of a mount point')]
Folder = Annotated[Path, Right("the path of a folder")]
File = Annotated[Path, Right("the path of a file")]
Keepalive = Annotated[int, Ge(1), Le(3600), Right("a whole number of seconds from 1 to 3600")]


@dataclass(frozen=True, slots=True, kw_only=True)
class LibvirtSection:
    """``[libvirt]``: where libvirt is and how it is called.  Each field is a key; durations are in seconds."""

    uri: LibvirtUri = "qemu:///system"
    autostart: Autostart = "refuse"
    instances_path: Folder = Path("/var/lib/nova/instances")
    instances_mount: MountPoint = "auto"
    """Where a file system must be mounted for ``instances_path``; ``auto`` determines that, ``none``: nowhere."""
    connections: Concurrency | None = None
    """For verbs that change something, one call on each at a time; None: as many as ``limits.concurrency``."""
    call_deadline: Seconds = 30.0
    """Of one call that should be quick: a read, a list, a definition."""
    start_deadline: Seconds = 300.0
    """Of one call that may wait for storage: start, stop, undefine."""
    reconnect: Seconds = 30.0
    """How long to try for a connection; what was under way is then checked again."""
    keepalive_interval: Keepalive = 5
    """Between two probes of an idle daemon; three without a reply are a lost connection."""
    wait_soft_reboot: Seconds = 120.0
    """How long a guest may take to carry out a soft reboot (Nova's ``wait_soft_reboot_seconds``)."""
    daemon_config: File | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LibvirtOptions(LibvirtSection):
    """The section, and what the daemon adds to it; durations are in seconds."""

    look_deadline_s: float = 10.0
    """Of one check of what a guest needs: its guests stay off if storage is silent longer."""
    mounts_file: Path | None = None
    """Records what was mounted there; None: nothing is recorded."""
    ask_again_s: float = 10.0
    """Between two shutdown requests: a guest that is still booting ignores them (Nova sends one)."""
    stopped_delay_s: float = 15.0
    """How long a stop is delayed: a start that follows makes it a reboot (Nova's ``_lifecycle_delay``)."""
    poll_s: float = 0.5
    """Between two reads of a guest that was requested to shut down."""
    may_change: bool = True
    """False: nothing is changed, so ``take_over`` disables nothing."""
