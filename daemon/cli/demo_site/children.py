"""Child processes of the demonstration: started, waited for, and gone with it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bringup.daemon.errors import Unavailable
from bringup.drivers.environment import clean

STOP_S = 5.0


@contextmanager
def serving(module: str, arguments: Sequence[str]) -> Iterator[str]:
    """Start a program that says ``{"url": ...}`` on its first line and ends when its stdin does; give the URL.

    :raises Unavailable: it ended before it said so.
    """
    command = [sys.executable, "-m", module, *arguments]
    # A group of its own: Ctrl-C is for the demonstration, which still has to report to its children.
    with subprocess.Popen(  # noqa: S603 - our own
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0, env=clean() | _of_python()
    ) as child:
        try:
            line = child.stdout.readline() if child.stdout else b""
            if not line:
                raise Unavailable(f"cannot start {module}: it ended with exit code {child.wait()}")
            yield str(json.loads(line)["url"])
        finally:
            _stop(child)


def _of_python() -> dict[str, str]:
    """Give what our own interpreter was told: where its packages are."""
    return {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.stdin:
        child.stdin.close()
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
