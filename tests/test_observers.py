"""Several observers of one run."""

import pytest
import structlog

from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.run_events import InstanceBegan, RunEvent
from bringup.daemon.status.observers import fan_out
from bringup.daemon.status.progress import Progress
from bringup.drivers.simulated import Fault
from support.drivers import uuid_of
from support.hosts import arranged, instance


def broken(event: RunEvent) -> None:
    """Fail whenever an instance gets its slot."""
    if isinstance(event, InstanceBegan):
        raise LookupError(event.uuid)  # noqa: TRY004 - any error will do


@pytest.mark.anyio
async def test_one_that_fails_hurts_neither_the_others_nor_the_run() -> None:
    first, last = Progress(), Progress()
    with structlog.testing.capture_logs() as logs:
        async with arranged([instance(1), instance(2)], observer=fan_out(first.observe, broken, last.observe)) as host:
            host.driver.inject(Fault(verb="get_info", uuid=uuid_of(2), error="DriverError"))
            await host.run()

    expected = {Kind.INITIALIZED: 1, Kind.FAILED: 1}
    assert (first.kinds, last.kinds) == (expected, expected)
    assert (last.run_id, last.phase, last.total) == (uuid_of(9), "done", 2)
    assert first.advances == last.advances > 0
    failures = [line for line in logs if line["event"] == "observer.failed"]
    assert [line["observer"] for line in failures] == ["broken", "broken"]
