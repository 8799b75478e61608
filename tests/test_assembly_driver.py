"""The driver at the ends of a run: found out before anything is waited for, and let go whatever it does."""

from pathlib import Path
from typing import Any

import anyio
import pytest
import trio.testing
from structlog.testing import capture_logs

from bringup.daemon.errors import SettingsError
from bringup.daemon.service import assembly
from bringup.daemon.settings import load
from bringup.drivers.simulated import Fault, Scenario, SimulatedDriver

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """On trio time passes as soon as everybody waits for it."""
    if request.param == "trio":
        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return "asyncio", {}


def a_driver(*faults: Fault) -> SimulatedDriver:
    return SimulatedDriver(Scenario(faults=faults))


async def test_a_driver_is_closed_and_nothing_is_reported_of_it() -> None:
    driver = a_driver()

    with capture_logs() as logs:
        await assembly.close_driver(driver)

    assert driver.count("close") == 1
    assert logs == []


@pytest.mark.parametrize(
    "fault",
    [Fault(verb="close", error="DriverError"), Fault(verb="close", error="RuntimeError")],
    ids=lambda f: f.error,
)
async def test_one_that_fails_to_close_is_reported_with_its_error_and_raises_nothing(fault: Fault) -> None:
    with capture_logs() as logs:
        await assembly.close_driver(a_driver(fault))

    assert [(line["event"], line["log_level"], line["exc_info"]) for line in logs] == [
        ("driver.not_closed", "error", True)
    ]


@pytest.mark.parametrize("cancelled", [False, True], ids=["in-peace", "cancelled"])
async def test_one_that_hangs_is_given_up_after_its_deadline(anyio_backend_name: str, *, cancelled: bool) -> None:
    driver = a_driver(Fault(verb="close", hang=True))

    with capture_logs() as logs, anyio.fail_after(20 * assembly.CLOSE_S), anyio.CancelScope() as scope:
        if cancelled:
            scope.cancel()
        began = anyio.current_time()
        await assembly.close_driver(driver)
    took_s = anyio.current_time() - began

    assert took_s >= assembly.CLOSE_S
    if anyio_backend_name == "trio":
        assert took_s == pytest.approx(assembly.CLOSE_S)
    assert logs == [{"event": "driver.not_closed", "log_level": "error", "deadline_s": assembly.CLOSE_S}]


async def test_one_that_is_closed_while_everything_is_cancelled_is_closed_all_the_same() -> None:
    driver = a_driver()

    with anyio.CancelScope() as scope:
        scope.cancel()
        await assembly.close_driver(driver)

    assert driver.count("close") == 1


@pytest.mark.parametrize("kind", ["file", "directory", "nothing"])
def test_what_a_driver_is_made_of_is_found_out_without_making_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "scenario.json"
    if kind == "file":
        # What is in it is the driver's business.
        path.write_text("{")
    elif kind == "directory":
        path.mkdir()
    config = tmp_path / "bringup.toml"
    config.write_text("")
    settings = load(config, environment={}, overrides=(f"driver.scenario={path}",))

    if kind == "file":
        assembly.check_driver(settings)
        return
    with pytest.raises(SettingsError) as raised:
        assembly.check_driver(settings)
    assert raised.value.problems == (f"driver.scenario: {path} is not a file; name a scenario file",)
