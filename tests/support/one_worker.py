"""Tests that share something costly, such as a machine that boots, go to one worker, which makes it once.

xdist's own ``loadgroup`` does that by renaming tests, which pytest 9.2 does not let it.
"""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

TOGETHER = {
    "tests/acceptance/test_booted.py": "a machine and an image",
    "tests/acceptance/test_container.py": "a machine and an image",
    "tests/acceptance/test_openstack_hardships.py": "a cloud to break",
    "tests/test_records_memory.py": "what files cost",
    "tests/test_release.py": "a release",
    "tests/test_nova_concurrency.py": "a cloud on MariaDB",
}
"""What the tests of a file share with those of others."""


class OneWorker(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives out each test by itself, and those of these files together."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return TOGETHER.get(file, nodeid)


@pytest.hookimpl
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneWorker:
    """Schedule so."""
    return OneWorker(config, log)
