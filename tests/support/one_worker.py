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
    "tests/test_record_files_memory.py": "what files cost",
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
    "tests/test_keystone_probe.py": "Keystone",
    "tests/test_tls.py": "Keystone",
}
"""What the tests of a file share with those of others."""

LONG = (
    "tests/acceptance/test_no_regret.py",
    "tests/acceptance/test_plain_host.py",
    "tests/acceptance/test_booted_softly.py",
    "tests/chaos/test_chaos.py",
    "tests/test_safety_model.py",
    "tests/test_region.py",
    "tests/test_placement_faults.py",
    "tests/conformance/test_faults.py",
    "tests/conformance/test_double_faults.py",
    "tests/conformance/test_decision_tables.py",
    "tests/acceptance/test_libvirt_host.py",
    "tests/acceptance/test_state_directory.py",
    "tests/acceptance/test_page.py",
    "tests/acceptance/test_demo.py",
    "tests/acceptance/test_deferred.py",
    "tests/test_needs.py",
)
"""Files with tests that take a quarter of a minute or more: begun last, one of them would keep a single worker busy."""

FEWEST_WORKERS, MOST_WORKERS = 3, 8


class OneWorker(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives out each test by itself, and those of these files together."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return TOGETHER.get(file, nodeid)

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        """Forget what is done: xdist goes through all that a worker was ever given, after each test."""
        super().mark_test_complete(node, item_index, duration)
        scope = self._split_scope(self.registered_collections[node][item_index])
        if all(self.assigned_work[node][scope].values()):
            del self.assigned_work[node][scope]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long; the order of the rest is random."""
    items.sort(key=lambda item: item.nodeid.split("::", 1)[0] not in LONG)


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
