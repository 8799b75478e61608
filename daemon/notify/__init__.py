"""What systemd is told: how far the run is, that it goes on, that the host is back, that the daemon lives.

``messages`` decides what to say, ``notifier`` says it, ``teller`` does both again and again.
"""

from bringup.daemon.notify.notifier import Notifier, from_environment
from bringup.daemon.notify.teller import Teller

__all__ = ["Notifier", "Teller", "from_environment"]
