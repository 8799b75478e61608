"""What every test has."""

import gc
import os
import signal
import sys
from collections.abc import Generator

import hypothesis
import pytest
import structlog

pytest_plugins = [
    "support.fuzzing",
    "support.once",
    "support.one_worker",
    "support.oracle_tally",
    "support.programs",
    "support.quick",
]

# Where a shell sets it, each process that a test starts would compile what it imports again: pip compiles nothing.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

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
        "test_host_lease",
        "test_init_host",
        "test_init_instance",
        "test_lifecycle_events",
        "test_operations",
        "test_parallel",
        "test_start_claim",
        "test_tasks",
        "test_unix_stream",
    }
)
"""Where tasks, deadlines and cancellation are what is tested; all else runs on asyncio alone, as the daemon does."""
SAMPLED_ON_TRIO = frozenset({"test_decision_tables", "test_double_faults", "test_faults"})
"""Replays of the oracle: all of it on asyncio, and a few cells of each row on trio, which are measured."""


def pytest_configure() -> None:
    """Receive a hang-up also under nohup, which the daemon that a test starts would inherit; write short tracebacks."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # In colours, with all variables, one takes half a second to draw, and nobody sees it.
    structlog.dev.ConsoleRenderer.get_active().exception_formatter = structlog.dev.plain_traceback


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave garbage while thousands of tests are made, none of which is."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Keep the tests themselves out of every later collection of garbage, with the little garbage that there is."""
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose the backends of anyio that a test runs on."""
    marks = metafunc.definition.iter_markers("parametrize")
    chosen = hasattr(metafunc.module, "anyio_backend") or any(mark.args[0] == "anyio_backend" for mark in marks)
    if "anyio_backend" in metafunc.fixturenames and not chosen:
        file = metafunc.definition.path.stem
        # The same lines run on both: they are measured once, where it costs less.
        measured = {"asyncio": file not in SAMPLED_ON_TRIO, "trio": file in SAMPLED_ON_TRIO}
        backends = ["asyncio", "trio"] if file in ON_BOTH_BACKENDS | SAMPLED_ON_TRIO else ["asyncio"]
        params = [pytest.param(name, marks=[] if measured[name] else pytest.mark.no_cover) for name in backends]
        metafunc.parametrize("anyio_backend", params, indirect=True)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on the backend that was chosen."""
    backend: str = request.param
    return backend
