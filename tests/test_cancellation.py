"""A run that is stopped in its middle: wherever that is, what is known is reported, and then nothing is touched."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import anyio
import pytest

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.recovery.init_host import STOPPED, init_host
from bringup.drivers.simulated import Fault
from support.drivers import uuid_of
from support.hosts import ELSEWHERE, ArrangedHost, arranged, evacuation, guest, instance, limits, outcome_of

pytestmark = pytest.mark.anyio

BEFORE_THE_FIRST_INSTANCE = {
    "placement",
    "open_host",
    "driver.init_host",
    "driver.register_event_listener",
    "driver.list_instance_uuids",
    "store.load_instances",
    "store.load_migrations",
    "store.load_instances_by_uuid",
    "driver.host_needs",
    "driver.filter_defer_apply_on",
}
AFTER_THE_LAST = ["driver.filter_defer_apply_off", "report"]


async def test_a_run_that_is_stopped_reports_what_it_knows_and_names_the_rest() -> None:
    async with arranged([instance(number) for number in (1, 2, 3, 4)], limits=limits(concurrency=2)) as host:
        host.driver.inject(Fault(verb="plug_vifs", uuid=uuid_of(2), hang=True))
        host.driver.inject(Fault(verb="plug_vifs", uuid=uuid_of(3), hang=True))
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(host.run)
                await host.driver.entered("plug_vifs", uuid_of(3))
                scope.cancel()

        [report] = host.reports
        assert [outcome.uuid for outcome in report.outcomes] == [uuid_of(1)]
        assert report.unfinished == (uuid_of(2), uuid_of(3), uuid_of(4))
        assert report.error == STOPPED
        assert host.progress.phase == "done"


async def test_the_shutdown_report_is_sent_in_full_although_the_run_is_being_stopped() -> None:
    async with arranged([instance(1)], defer_iptables_apply=True) as host:
        with anyio.CancelScope() as scope:
            host.trace.before = lambda _n: scope.cancel() if host.trace.names()[-1] == "driver.plug_vifs" else None
            await host.run()

        assert scope.cancelled_caught
        assert host.trace.names()[-2:] == AFTER_THE_LAST
        assert len(host.reports) == 1
        assert not host.driver.hypervisor.firewall.deferred


@pytest.mark.parametrize("name", AFTER_THE_LAST)
async def test_a_shutdown_report_that_hangs_does_not_keep_a_run_from_being_stopped(name: str) -> None:
    async with arranged([instance(1)], defer_iptables_apply=True, limits=limits(shutdown_report_deadline=0.2)) as host:
        host.trace.hang(name)
        with anyio.fail_after(30), anyio.CancelScope() as scope:
            host.trace.before = lambda _n: scope.cancel() if host.trace.names()[-1] == "driver.plug_vifs" else None
            await host.run()

        assert scope.cancelled_caught
        assert host.trace.names()[-2:] == AFTER_THE_LAST


def _records() -> list[Instance]:
    return [
        instance(1),
        instance(2, task_state=TaskState.REBOOT_PENDING_HARD),
        instance(3, task_state=TaskState.POWERING_OFF),
        instance(4, task_state=TaskState.DELETING),
        instance(5, host=ELSEWHERE),
        instance(6, task_state=TaskState.RESIZE_PREP),
    ]


@dataclass(frozen=True, slots=True)
class _Stop:
    """Cancel at one call: as it begins, or as soon as it has had its effect."""

    number: int
    effect: str


async def _stopped(host: ArrangedHost, stop: _Stop) -> bool:
    """Run until the stop; tell whether it was reached before the run ended."""
    with anyio.CancelScope() as scope:

        def cancel(number: int) -> None:
            if number == stop.number:
                scope.cancel()

        setattr(host.trace, stop.effect, cancel)
        await init_host(host.start)
    return scope.cancelled_caught


def _assert_it_stopped_well(host: ArrangedHost) -> None:
    names = host.trace.names()
    begun = [name for name in names if name not in {*BEFORE_THE_FIRST_INSTANCE, *AFTER_THE_LAST}]
    if not host.reports:
        assert begun == []
        return
    # Said once, last, and complete: each instance is settled or named as unfinished.
    assert names.count("report") == 1
    assert names[-2:] == AFTER_THE_LAST
    [report] = host.reports
    assert sorted([*(outcome.uuid for outcome in report.outcomes), *report.unfinished]) == [
        uuid_of(number) for number in range(1, 7)
    ]
    assert all(outcome.kind is Kind.INITIALIZED for outcome in report.outcomes)
    assert not host.driver.hypervisor.firewall.deferred


async def _assert_the_next_run_ends_what_this_one_began(host: ArrangedHost) -> None:
    host.trace.lift()
    host.reports.clear()
    result = await host.run()

    left = {number: await host.record(number) for number in (1, 2, 3, 4, 6)}
    stopped = instance(3, vm_state=VmState.STOPPED, power_state=PowerState.SHUTDOWN)
    assert left == {1: instance(1), 2: instance(2), 3: stopped, 4: None, 6: instance(6)}
    powers = {number: host.power(number) for number in range(1, 7)}
    running = PowerState.RUNNING
    assert powers == {1: running, 2: running, 3: PowerState.SHUTDOWN, 4: None, 5: None, 6: running}
    assert host.driver.hypervisor.disks_destroyed == {uuid_of(4)}
    assert all(outcome.kind is Kind.INITIALIZED for outcome in result.outcomes)
    assert result.unfinished == ()


@pytest.mark.parametrize("effect", ["before", "after"])
async def test_wherever_a_run_is_stopped_it_reports_once_and_the_next_run_ends_it(effect: str) -> None:
    async with _everything() as host:
        await host.run()
        calls = len(host.trace.calls)
    assert calls > 35

    stopped = 0
    for number in range(1, calls + 1):
        async with _everything() as host:
            stopped += await _stopped(host, _Stop(number, effect))
            _assert_it_stopped_well(host)
            await _assert_the_next_run_ends_what_this_one_began(host)

    # After a listener is registered, and after the last verb, nothing is waited for outside the shield.
    assert stopped >= calls - 5


def _everything() -> AbstractAsyncContextManager[ArrangedHost]:
    return arranged(
        _records(),
        guests=[guest(number) for number in range(1, 7)],
        migrations=[evacuation(5)],
        limits=limits(concurrency=2),
        on_event=lambda _event: None,
        defer_iptables_apply=True,
    )


async def test_cancellation_is_no_outcome() -> None:
    """Cancellation of a run does not make its instances failed ones."""
    stops: list[Callable[[], None]] = []
    async with arranged([instance(1, task_state=TaskState.POWERING_OFF)]) as host:
        host.driver.inject(Fault(verb="power_off", hang=True))
        with anyio.CancelScope() as scope:
            stops.append(scope.cancel)
            async with anyio.create_task_group() as group:
                group.start_soon(host.run)
                await host.driver.entered("power_off")
                stops[0]()

        [report] = host.reports
        assert (report.outcomes, report.unfinished) == ((), (uuid_of(1),))
        assert await host.record(1) == instance(1, task_state=TaskState.POWERING_OFF)


async def test_a_deadline_that_passed_before_the_stop_stays_an_outcome() -> None:
    async with arranged([instance(1), instance(2)], limits=limits(concurrency=1, instance_deadline=1.0)) as host:
        host.driver.inject(Fault(verb="get_info", hang=True))
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(host.run)
                await host.driver.entered("get_info", uuid_of(2))
                scope.cancel()

        [report] = host.reports
        assert outcome_of(report, 1).kind is Kind.FAILED
        assert report.unfinished == (uuid_of(2),)
