"""What every test has."""

import pytest

pytest_plugins = ["support.oracle_tally"]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run on both of anyio's backends."""
    backend: str = request.param
    return backend
