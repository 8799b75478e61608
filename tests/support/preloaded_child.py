"""Imports what the command imports, then forks a process for each command line that it is handed; see preloaded.py.

Usage: ``preloaded_child.py DESCRIPTOR``, which is a socket.
"""

import importlib
import io
import os
import runpy
import sys
from pathlib import Path

from bringup.daemon.quick_imports import quick_imports

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
    "bringup.daemon.storage.store.postgresql",
    "bringup.daemon.storage.store.sqlite",
    "bringup.daemon.service.assembly",
    "bringup.daemon.service.assembly.libvirt",
    "bringup.drivers.simulated",
    "httpcore",
    "sqlalchemy.dialects.sqlite.pysqlite",
)
TABLES = ("rich.progress", "rich.table")
"""Imported after what would otherwise take them for its own."""


if __name__ == "__main__":
    with quick_imports():
        for name in NEEDED:
            importlib.import_module(name)
    for name in TABLES:
        importlib.import_module(name)
    # Beside this one: what is imported is the command's.
    sys.argv = ["bringup", *importlib.import_module("forking").serve(int(sys.argv[1]))]
    sys.path[0] = str(Path.cwd())
    # It was made for a pipe.
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))
    runpy.run_module("bringup", run_name="__main__", alter_sys=True)
