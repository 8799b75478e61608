"""Runs under Nova's Python: the whole nova-compute with its own driver; says when ``init_host`` ended, and how.

``real_compute_child.py EVENTS ARGUMENT ...``: one line of JSON an event is appended to the file EVENTS.
"""

import json
import os
import sys
from typing import Any

os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "1"
events, sys.argv = sys.argv[1], ["nova-compute", *sys.argv[2:]]

# Nova reads the two above when it is imported.
from nova.cmd import compute  # noqa: E402
from nova.compute import manager  # noqa: E402

init_host = manager.ComputeManager.init_host


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


manager.ComputeManager.init_host = told
compute.main()
