"""QEMU guests through libvirt (extra ``bringup[libvirt]``); ``docs/libvirt.md`` is for who runs it.

* ``binding``: libvirt's Python module, imported late; ``errors``: what its errors mean, in one table.
* ``threads``, ``connections``, ``hypervisor``: a blocking call has a thread, a deadline, a connection; what
  was under way when the connection broke is looked at again.
* ``power``, ``disks``, ``migrated``, ``snapshots``, ``traits``: what the verbs do; ``opening``, ``driver``: the verbs.
* ``needed``: what a guest needs before it is started; ``starting``: one start, and what it means that it was refused.
* ``events``, ``event_listener``: lifecycle events; ``autostart_conflicts``: who else starts guests here.
"""

from bringup.drivers.libvirt.autostart_conflicts import (
    AutostartConflicts,
    DaemonLimits,
    access_drivers,
    bottlenecks,
    daemon_limits,
    is_local,
)
from bringup.drivers.libvirt.binding import NEEDS
from bringup.drivers.libvirt.domains import DefinedGuest
from bringup.drivers.libvirt.driver import LibvirtDriver
from bringup.drivers.libvirt.options import LibvirtOptions

__all__ = [
    "NEEDS",
    "AutostartConflicts",
    "DaemonLimits",
    "DefinedGuest",
    "LibvirtDriver",
    "LibvirtOptions",
    "access_drivers",
    "bottlenecks",
    "daemon_limits",
    "is_local",
]
