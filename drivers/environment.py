"""What the programs that are started here get of our environment: passwords and tokens may be in it."""

import os
from collections.abc import Mapping

KEPT = (
    *("PATH", "TMPDIR", "DBUS_SYSTEM_BUS_ADDRESS"),
    # Where Open vSwitch has its sockets, which a host may have elsewhere.
    *("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR", "OVS_PKGDATADIR"),
)


def clean(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give what a program needs, in no language but the one that its messages are read in."""
    ours = os.environ if environment is None else environment
    return {name: ours[name] for name in KEPT if name in ours} | {"LC_ALL": "C"}
