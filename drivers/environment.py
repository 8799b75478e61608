"""What the programs that are started here get of our environment: passwords and tokens may be in it.

Whatever starts a program takes its ``env`` from here; a test looks for every such call.  Of our files a program gets
none: Python closes all but the three of its own.
"""

import os
from collections.abc import Mapping

KEPT = (
    *("TMPDIR", "DBUS_SYSTEM_BUS_ADDRESS"),
    # Where Open vSwitch has its sockets, which a host may have elsewhere.
    *("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR", "OVS_PKGDATADIR"),
)


def clean(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give what a program needs, in no language but the one that its messages are read in."""
    ours = os.environ if environment is None else environment
    kept = {name: ours[name] for name in KEPT if name in ours}
    return kept | {"PATH": _folders(ours.get("PATH", os.defpath)), "LC_ALL": "C"}


def _folders(path: str) -> str:
    """Give the folders of a PATH that are the same wherever we are: of a shell's own it may have ".", or nothing."""
    return os.pathsep.join(folder for folder in path.split(os.pathsep) if folder.startswith("/"))
