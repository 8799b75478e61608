"""What every test has."""

from collections.abc import Iterator

import hypothesis
import pytest
from stamina.instrumentation import set_on_retry_hooks

pytest_plugins = ["support.one_worker", "support.oracle_tally", "support.programs"]

# The machine may be busy: how long an example took says nothing.
hypothesis.settings.register_profile("bringup", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("bringup")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on both of anyio's backends."""
    backend: str = request.param
    return backend


@pytest.fixture(autouse=True)
def stamina_says_what_it_tries_again() -> Iterator[None]:
    """Undo what a command that ran in this process has set."""
    yield
    set_on_retry_hooks(None)
