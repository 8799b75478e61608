"""Notifications to systemd: the progress of the run, that the host is back, that the daemon works.

``messages`` decides what to send, ``notifier`` sends it, ``loop`` does both periodically.
"""

from bringup.daemon.status.systemd.loop import NotifierLoop
from bringup.daemon.status.systemd.notifier import Notifier, from_environment

__all__ = ["Notifier", "NotifierLoop", "from_environment"]
