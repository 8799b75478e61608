"""Tests that share something costly, a machine that boots or an image, go to one worker, which makes it once.

xdist's own ``loadgroup`` does that by renaming tests, which pytest 9.2 does not let it.
"""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

TOGETHER = ("tests/acceptance/test_booted.py", "tests/acceptance/test_container.py")


class OneWorker(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives out each test by itself, and those of these files together."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return "together" if file in TOGETHER else nodeid


@pytest.hookimpl
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneWorker:
    """Schedule so."""
    return OneWorker(config, log)
