"""Imports what the command imports, then forks a process for each command line that it is handed; see preloaded.py.

Usage: ``preloaded_child.py DESCRIPTOR``, which is a socket.  It ends when nobody holds the other end any more.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
from typing import Any

from bringup.daemon.quick_imports import quick_imports

MOST = 1 << 20
MOST_DESCRIPTORS = 1024
NEEDED = (
    "anyio._backends._asyncio",
    "bringup.daemon.cli.check_steps",
    "bringup.daemon.cli.main",
    "bringup.daemon.cli.plan_host",
    "bringup.daemon.cli.plan_output",
    "bringup.daemon.openstack.scheduler_http",
    "bringup.daemon.status.timeline_svg",
    "bringup.daemon.recovery.evacuated_guests",
    "bringup.daemon.storage.journal.history",
    "bringup.daemon.storage.journal.sqlite",
    "bringup.daemon.service.process",
    "bringup.daemon.settings",
    "bringup.daemon.status.client",
    "bringup.daemon.storage.store.sqlite",
    "bringup.daemon.service.assembly",
    "bringup.daemon.service.assembly.libvirt",
    "bringup.drivers.simulated",
    "httpcore",
    "sqlalchemy.dialects.sqlite.pysqlite",
)
TABLES = ("rich.progress", "rich.table")
"""Imported after what would otherwise take them for its own."""


def _serve(channel: socket.socket) -> None:
    """Return in each new process that is to be the command, and never else."""
    # Nobody waits for those who wait.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, MOST, 3)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            channel.close()
            _wait_for_the_command(json.loads(message), *descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def _wait_for_the_command(request: dict[str, Any], out: int, err: int, told: int) -> None:
    """Return in the process of the command; in its parent tell its PID, and its end."""
    pid = os.fork()
    if pid == 0:
        _become(request, out, err)
        return
    os.close(out)
    os.close(err)
    os.write(told, f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    os.write(told, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(request: dict[str, Any], out: int, err: int) -> None:
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.closerange(3, MOST_DESCRIPTORS)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["directory"])
    sys.path[0] = request["directory"]
    sys.argv = ["bringup", *request["arguments"]]


if __name__ == "__main__":
    with quick_imports():
        for name in NEEDED:
            importlib.import_module(name)
    for name in TABLES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module("bringup", run_name="__main__", alter_sys=True)
