"""Child processes of the demonstration, which exit with it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bringup.daemon.errors import Unavailable
from bringup.drivers.environment import child_environment

STOP_S = 5.0


@contextmanager
def serving(module: str, arguments: Sequence[str]) -> Iterator[str]:
    """Start a program that prints ``{"url": ...}`` as its first line and exits when stdin closes; return the URL.

    :raises Unavailable: it exited before that.
    """
    command = [sys.executable, "-m", module, *arguments]
    # Its own process group: Ctrl-C stops the demonstration, which then still needs its children.
    with subprocess.Popen(  # noqa: S603 - our own
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0, env=child_environment() | _of_python()
    ) as child:
        try:
            line = child.stdout.readline() if child.stdout else b""
            if not line:
                raise Unavailable(f"cannot start {module}: it exited with code {child.wait()}")
            yield str(json.loads(line)["url"])
        finally:
            _stop(child)


def _of_python() -> dict[str, str]:
    """Return the environment of our interpreter: the location of its packages."""
    return {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.stdin:
        child.stdin.close()
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
