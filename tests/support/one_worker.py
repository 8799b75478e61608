"""How tests are given to workers, and to how many.

Tests that share something costly, such as a machine that boots, go to one worker, which makes it once.

xdist's own ``loadgroup`` does that by renaming tests, which pytest 9.2 does not let it.
"""

import os
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

TOGETHER = {
    "tests/acceptance/test_booted.py": "a machine and an image",
    "tests/acceptance/test_container.py": "a machine and an image",
    "tests/test_records_memory.py": "what files cost",
    "tests/test_release.py": "a release",
    "tests/acceptance/test_nova_compute.py": "a cloud",
    "tests/acceptance/test_nova_compute_goes_on.py": "a cloud",
    "tests/acceptance/test_openstack.py": "a cloud",
    "tests/acceptance/test_openstack_hardships.py": "a cloud",
    "tests/acceptance/test_openstack_scheduler.py": "a cloud",
    "tests/test_nova_concurrency.py": "a cloud on MariaDB",
    "tests/test_rpc.py": "a cloud",
    "tests/test_store_nova_conductor.py": "a cloud",
    "tests/acceptance/test_credentials.py": "Keystone",
    "tests/acceptance/test_secrets_keystone.py": "Keystone",
    "tests/test_keystone.py": "Keystone",
    "tests/test_keystone_knock.py": "Keystone",
    "tests/test_tls.py": "Keystone",
}
"""What the tests of a file share with those of others."""


FEWEST_WORKERS, MOST_WORKERS = 3, 8


class OneWorker(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives out each test by itself, and those of these files together."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return TOGETHER.get(file, nodeid)


@pytest.hookimpl
def pytest_xdist_auto_num_workers() -> int | None:
    """Start three where there are two processors: many tests wait for a machine or a peer."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return min(max(FEWEST_WORKERS, len(os.sched_getaffinity(0))), MOST_WORKERS)


@pytest.hookimpl
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneWorker:
    """Schedule so."""
    return OneWorker(config, log)
