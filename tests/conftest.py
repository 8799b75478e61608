"""What every test has."""

import signal
import sys

import hypothesis
import pytest

pytest_plugins = ["support.fuzzing", "support.one_worker", "support.oracle_tally", "support.programs", "support.quick"]

# jsonschema makes 38 parsers of IRIs when it is imported, which takes two seconds of each worker; no schema of ours has
# an IRI.  What writes an SBOM is a process of its own, and has them.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # as the import system has it: it is not there

# The machine may be busy: how long an example took says nothing.
hypothesis.settings.register_profile("bringup", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("bringup")


ON_BOTH_BACKENDS = frozenset(
    {
        "test_batching",
        "test_batching_repeatable",
        "test_cancellation",
        "test_deferred_instances",
        "test_host_lease",
        "test_init_host",
        "test_init_instance",
        "test_keystone",
        "test_libvirt_connections",
        "test_libvirt_room",
        "test_lifecycle_events",
        "test_operations",
        "test_outbox",
        "test_parallel",
        "test_service_placement_gate",
        "test_service_process",
        "test_start_claim",
        "test_stores",
        "test_tasks",
    }
)
"""Where tasks, deadlines and cancellation are what is tested; all else runs on asyncio alone, as the daemon does."""


def pytest_configure() -> None:
    """Hear a hang-up also under nohup, where the daemon that a test starts would ignore it, as it should."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose the backends of anyio that a test runs on."""
    marks = metafunc.definition.iter_markers("parametrize")
    chosen = hasattr(metafunc.module, "anyio_backend") or any(mark.args[0] == "anyio_backend" for mark in marks)
    if "anyio_backend" in metafunc.fixturenames and not chosen:
        path = metafunc.definition.path
        replays = path.parent.name == "conformance"
        core = path.stem in ON_BOTH_BACKENDS or replays
        # The same lines run on both.  A replay on trio is of fewer cells, so that one is measured.
        unmeasured = [pytest.mark.no_cover]
        on_asyncio = pytest.param("asyncio", marks=unmeasured if replays else [])
        on_trio = pytest.param("trio", marks=[] if replays else unmeasured)
        metafunc.parametrize("anyio_backend", [on_asyncio, on_trio] if core else [on_asyncio], indirect=True)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on the backend that was chosen."""
    backend: str = request.param
    return backend
