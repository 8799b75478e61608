"""Runs under Nova's Python: nova_programs_child.py with one program more, the whole nova-compute with its own driver.

``compute EVENTS ARGUMENT ...``: the arguments are nova-compute's.  It says when ``init_host`` ended, and how: a line of
JSON that is appended to the file EVENTS.
"""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "1"

# Nova reads this when it is imported, and its command comes before all else of it.  The last two are what os-vif
# imports at each start, once in nova-compute and once in its privileged process.
from nova.cmd import compute  # noqa: I001
from nova import privsep
from nova.compute import manager
from nova.virt.libvirt import driver  # noqa: F401
from oslo_privsep import priv_context
from vif_plug_ovs import ovs, privsep as vif_plug_ovs  # noqa: F401
from vif_plug_ovs.ovsdb import impl_idl  # noqa: F401


def main() -> None:
    """Run nova-compute until killed."""
    events = sys.argv.pop(1)
    init_host, init_contexts = manager.ComputeManager.init_host, priv_context.init
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

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


if __name__ == "__main__":
    # Beside this one; see there.
    sys.path.append(str(Path(__file__).parent))
    programs = importlib.import_module("nova_programs_child")
    programs.serve(programs.PROGRAMS | {"compute": sys.modules["__main__"]})
