"""How tests are given to workers, and to how many.

Tests that share something costly, such as a machine that boots, go to one worker, which makes it once.

xdist's own ``loadgroup`` does that by renaming tests, which pytest 9.2 does not let it.
"""

import functools
import os
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

TOGETHER = {
    "tests/acceptance/test_nova_compute.py": "a cloud",
    "tests/acceptance/test_nova_compute_continues.py": "a cloud",
    "tests/acceptance/test_openstack.py": "a cloud",
    "tests/acceptance/test_openstack_hardships.py": "a cloud",
    "tests/acceptance/test_openstack_scheduler.py": "a cloud",
    "tests/test_nova_concurrency.py": "a cloud",
    "tests/test_nova_queues.py": "a cloud",
    "tests/test_rpc.py": "a cloud",
    "tests/test_store_nova_conductor.py": "a cloud",
    "tests/acceptance/test_evil_conductor.py": "a broker",
    "tests/test_rpc_tls.py": "a broker",
    "tests/test_scheduler_nova.py": "a broker",
    "tests/acceptance/test_credentials.py": "Keystone",
    "tests/acceptance/test_secrets_keystone.py": "Keystone",
    "tests/test_events.py": "the log lines of the code",
    "tests/test_keystone.py": "Keystone",
    "tests/test_keystone_probe.py": "Keystone",
    "tests/test_placement_faults.py": "Keystone",
    "tests/test_tls.py": "Keystone",
}
"""What the tests of a file share with those of others; where a file has a fixture of its own, they share that."""
OF_A_FILE = 'scope="module"'

LONGEST_FIRST = (
    "tests/acceptance/test_no_regret.py",
    "tests/acceptance/test_openstack.py",
    "tests/acceptance/test_booted.py",
    "tests/acceptance/test_plain_host.py",
    "tests/chaos/test_chaos.py",
    "tests/test_gates.py",
    "tests/test_keystone.py",
    "tests/acceptance/test_container.py",
    "tests/test_placement_faults.py",
    "tests/acceptance/test_booted_softly.py",
    "tests/test_safety_model.py",
    "tests/test_region.py",
    "tests/conformance/test_faults.py",
    "tests/conformance/test_double_faults.py",
    "tests/conformance/test_decision_tables.py",
    "tests/acceptance/test_libvirt_host.py",
    "tests/acceptance/test_state_directory.py",
    "tests/acceptance/test_page.py",
    "tests/acceptance/test_demo.py",
    "tests/acceptance/test_deferred.py",
    "tests/test_release.py",
    "tests/acceptance/test_benchmarks.py",
    "tests/test_needs.py",
)
"""Files with tests that take a quarter of a minute or more: begun last, one of them would keep a single worker busy."""

MOST_WORKERS = 8


class OneWorker(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Scheduling of each test by itself, and of those of these files together."""

    def schedule(self) -> None:
        """Keep the order of the tests: otherwise the files with the most tests come first."""
        self.config.option.loadscopereorder = False
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        file, _, case = nodeid.partition("::")
        if "[postgresql" in case:
            return "PostgreSQL"
        return TOGETHER.get(file) or (file if _has_a_fixture(self.config.rootpath / file) else nodeid)

    def _assign_work_unit(self, node: Any) -> None:
        """Keep long tests from waiting behind each other: the last ones are assigned instead."""
        waiting = (nodeid for unit in self.assigned_work.get(node, {}).values() for nodeid in unit)
        if any(nodeid.split("::", 1)[0] in LONGEST_FIRST for nodeid in waiting):
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        """Forget what is done: xdist goes through all that a worker was ever given, after each test."""
        super().mark_test_complete(node, item_index, duration)
        scope = self._split_scope(self.registered_collections[node][item_index])
        if all(self.assigned_work[node][scope].values()):
            del self.assigned_work[node][scope]


@functools.cache
def _has_a_fixture(file: Path) -> bool:
    return OF_A_FILE in file.read_text()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move what takes long to the front; the order of the rest is random."""
    places = {file: place for place, file in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.nodeid.split("::", 1)[0], len(places)))


@pytest.hookimpl
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Start two for each processor, as many tests wait for a machine or a peer; the quick ones do not."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    processors = len(os.sched_getaffinity(0))
    return min(processors + 1 if config.option.quick else 2 * processors, MOST_WORKERS)


@pytest.hookimpl
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneWorker:
    """Schedule so."""
    return OneWorker(config, log)
