"""Runs under Nova's Python: imports Nova, then forks a process for each of its programs; see preloaded.py.

Usage: ``nova_programs_child.py DESCRIPTOR``, which is a socket.  Programs are nova-conductor and nova-scheduler,
``records CONF``, which is nova_child.py, and ``init_host JSON``, which is nova_compute_child.py.
"""

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "1"

# Nova reads this when it is imported; its commands come first, as they choose between threads and eventlet.
from nova.cmd import conductor, scheduler

# Last, and only for as long: modules beside this one have names of OpenStack's.
sys.path.append(str(Path(__file__).parent))
forking, records, init_host = map(importlib.import_module, ("forking", "nova_child", "nova_compute_child"))
sys.path.pop()

PROGRAMS = {"conductor": conductor, "scheduler": scheduler, "records": records, "init_host": init_host}


def serve(programs: Mapping[str, ModuleType]) -> None:
    """Fork a process for each request, and run in it the program that it names."""
    name, *arguments = forking.serve(int(sys.argv[1]))
    # Its workers are ended with it.
    os.setsid()
    sys.argv = [f"nova-{name}", *arguments]
    programs[name].main()


if __name__ == "__main__":
    serve(PROGRAMS)
