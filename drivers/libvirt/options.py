"""What a driver for libvirt is told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Autostart = Literal["refuse", "warn", "take_over"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LibvirtOptions:
    """Where libvirt is and how it is spoken to; times are in seconds."""

    uri: str = "qemu:///system"
    connections: int = 8
    """For verbs that change something, one call on each at a time; looks and events have their own."""
    call_deadline_s: float = 30.0
    """Of one call that should be quick: a look, a list, a definition."""
    start_deadline_s: float = 300.0
    """Of one call that may wait for storage: start, stop, undefine."""
    look_deadline_s: float = 10.0
    """Of one look at what a guest needs: a storage that is silent longer keeps its guests off."""
    reconnect_s: float = 30.0
    """How long to try for a connection; what was under way is then looked at again."""
    keepalive_s: int = 5
    """Between two questions to an idle daemon; three without an answer are a lost connection."""
    instances_path: Path = Path("/var/lib/nova/instances")
    instances_mount: str = "auto"
    """Where a file system must be mounted for the folder to be itself; ``auto`` finds that out, ``none``: nowhere."""
    places_file: Path | None = None
    """Remembers what was mounted there; None: nothing is remembered."""
    soft_reboot_s: float = 120.0
    """How long a guest may take to follow a soft reboot (Nova's ``wait_soft_reboot_seconds``)."""
    ask_again_s: float = 10.0
    """Between two requests to follow it: one that is still starting hears none (Nova asks once)."""
    stopped_delay_s: float = 15.0
    """How long a stop is held back: a start that follows makes it a reboot (Nova's ``_lifecycle_delay``)."""
    poll_s: float = 0.5
    """Between two looks at a guest that was asked to shut down."""
    autostart: Autostart = "refuse"
    may_change: bool = True
    """False: only looks are taken, so ``take_over`` takes nothing over."""
