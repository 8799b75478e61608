"""What ``bringup check`` says of the confinement of the processes that answer at the status endpoint, tried here."""

import json
import subprocess

import anyio

from bringup.daemon.cli.check_finding import Finding, Status
from bringup.daemon.settings import Settings
from bringup.daemon.status.endpoint.listeners import COMMAND, environment
from bringup.daemon.status.endpoint.unconfined import told
from bringup.daemon.status.listener.start import TELL

PATIENCE_S = 30.0


async def confined_finding(settings: Settings) -> Finding | None:
    """Begin such a process, which ends at once; None where all can be applied, or nothing answers."""
    if not settings.status.enabled:
        return None
    try:
        with anyio.fail_after(PATIENCE_S):
            ended = await anyio.run_process(
                [*COMMAND, TELL],
                stderr=subprocess.DEVNULL,
                env=environment(),
                cwd="/",
                # It lowers the turn of its session.
                start_new_session=True,
            )
        lacks: dict[str, str] = json.loads(ended.stdout)
    except (OSError, ValueError, TimeoutError, subprocess.CalledProcessError) as error:
        message = f"the process that answers at the status endpoint cannot be tried: {type(error).__name__}: {error}"
        return Finding("status", Status.WARNING, message)
    if not lacks:
        return None
    reasons, means = told(lacks)
    message = f"who answers at the status endpoint is not confined by all that it should be ({reasons}): {means}"
    return Finding("status", Status.WARNING, message, {"lacks": list(lacks)})
