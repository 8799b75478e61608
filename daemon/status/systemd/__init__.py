"""What systemd is told: how far the run is, that it goes on, that the host is back, that the daemon lives.

``messages`` decides what to say, ``notifier`` says it, ``loop`` does both again and again.
"""

from bringup.daemon.status.systemd.loop import Teller
from bringup.daemon.status.systemd.notifier import Notifier, from_environment

__all__ = ["Notifier", "Teller", "from_environment"]
