"""Environment of the programs that are started here: ours may contain passwords and tokens.

Every call that starts a program uses this ``env``; a test finds each such call.  A program inherits none of our open
files: Python closes all but its standard streams.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence

KEPT = (
    *("TMPDIR", "DBUS_SYSTEM_BUS_ADDRESS"),
    # Where Open vSwitch has its sockets: a host may change that.
    *("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR", "OVS_PKGDATADIR"),
)


def child_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables that a program needs, with the locale in which its messages are parsed."""
    ours = os.environ if environment is None else environment
    kept = {name: ours[name] for name in KEPT if name in ours}
    return kept | {"PATH": _folders(ours.get("PATH", os.defpath)), "LC_ALL": "C"}


def output_of(command: Sequence[str], *, within_s: float) -> str:
    """Run a query and return its standard output.

    :raises OSError: it cannot be started.
    :raises subprocess.SubprocessError: it failed, or did not end in time.
    """
    return subprocess.run(  # noqa: S603 - each caller's command is a constant
        command,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=True,
        stdin=subprocess.DEVNULL,
        env=child_environment(),
    ).stdout


def _folders(path: str) -> str:
    """Return the absolute folders of a PATH: that of a shell may contain ".", or an empty entry."""
    return os.pathsep.join(folder for folder in path.split(os.pathsep) if folder.startswith("/"))
