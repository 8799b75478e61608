"""Runs under Nova's Python: the whole nova-compute with its own driver; says when ``init_host`` ended, and how.

``real_compute_child.py ARGUMENT ...``, which are nova-compute's.  It imports what a nova-compute needs, forks one for
each line of standard input, and answers with two lines: its PID, and how it ended once it has.  The line is a file: one
line of JSON an event is appended to it.
"""

import json
import os
import sys
from typing import Any

os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "1"
sys.argv[0] = "nova-compute"

# Nova reads the two above when it is imported, and this one before all else.
from nova.cmd import compute  # noqa: E402, I001
from nova import privsep  # noqa: E402
from nova.compute import manager  # noqa: E402
from nova.virt.libvirt import driver  # noqa: E402, F401
from oslo_privsep import priv_context  # noqa: E402
from vif_plug_ovs import privsep as vif_plug_ovs  # noqa: E402


def serve() -> str:
    """Return in each process that is to be a nova-compute, and never else; give its file."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os.dup2(2, 1)
            return line.strip()
        os.write(1, f"{pid}\n".encode())
        os.write(1, f"{os.waitpid(pid, 0)[1]}\n".encode())
    os._exit(0)


events = serve()
init_host, init_contexts = manager.ComputeManager.init_host, priv_context.init


def told(self: Any, service: Any) -> Any:
    """Return how Nova's own method ended."""
    error: str | None = None
    try:
        return init_host(self, service)
    except BaseException as problem:
        error = f"{type(problem).__name__}: {problem}"
        raise
    finally:
        with open(events, "a") as file:  # noqa: PTH123 - runs where Nova runs: nothing of ours
            file.write(json.dumps({"ended": "init_host", "error": error}) + "\n")


def initialized(*arguments: Any, **named: Any) -> None:
    """Start its privileged processes as well: forked from this one, they import nothing."""
    init_contexts(*arguments, **named)
    for context in (privsep.sys_admin_pctxt, vif_plug_ovs.vif_plug):
        context.start(priv_context.Method.FORK)


manager.ComputeManager.init_host = told
priv_context.init = initialized
compute.main()
