"""What failed or is deferred is tried again when an operator says so, as if it had not been tried."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.errors import StoreUnavailable, UsageError
from bringup.daemon.recovery.operator_requests import try_again
from bringup.daemon.recovery.settle_again import Again, settle_again
from bringup.daemon.storage.store.sql import SqlStore
from bringup.drivers.simulated import Fault
from support.drivers import uuid_of
from support.hosts import instance
from support.waiting_host import DISK, OFF, START, UUID, Waiting, only, reported, staying

pytestmark = pytest.mark.anyio


@pytest.fixture
def waiting(tmp_path: Path) -> Waiting:
    return Waiting(tmp_path)


async def test_the_daemon_that_stays_tries_again_what_an_operator_names(waiting: Waiting) -> None:
    async with waiting.host(faults=[Fault(verb=START, error="DriverError", times=1)]) as host:
        brought = await host.starts()
        assert only(brought).kind is Kind.FAILED
        assert await host.arranged.record(1) == instance(1, vm_state=VmState.ERROR)
        async with staying(brought):
            assert await host.retries() == [UUID]
            await reported(host, Kind.INITIALIZED)
        assert host.arranged.power(1) is PowerState.RUNNING
        assert await host.arranged.record(1) == instance(1)
        assert await host.journal.retries() == frozenset()


FAILURES: dict[str, tuple[dict[str, Any], PowerState, Fault]] = {
    "resume": ({}, OFF, Fault(verb=START, error="DriverError", times=1)),
    "plug_vifs": ({}, PowerState.RUNNING, Fault(verb="plug_vifs", error="VirtualInterfacePlugError", times=1)),
    "reboot": (
        {"task_state": TaskState.REBOOT_STARTED_HARD},
        OFF,
        Fault(verb="reboot", error="DriverError", times=1),
    ),
    "start": (
        {"vm_state": VmState.STOPPED, "power_state": OFF, "task_state": TaskState.POWERING_ON},
        OFF,
        Fault(verb="power_on", error="DriverError", times=1),
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_what_failed_is_tried_again_as_if_it_had_not(waiting: Waiting, failure: str) -> None:
    columns, power, fault = FAILURES[failure]
    async with waiting.host(records=[instance(1, **columns)], power=power, faults=[fault]) as host:
        brought = await host.starts()
        assert only(brought).kind is Kind.FAILED
        brought = await try_again(brought, frozenset({UUID}))
        assert only(brought).kind is Kind.INITIALIZED
        record = await host.arranged.record(1)
        assert record is not None
        assert host.arranged.power(1) is PowerState.RUNNING
        assert (record.vm_state, record.task_state) == (VmState.ACTIVE, None)


class Forgetful(SqlStore):
    """A store that cannot be asked for one record."""

    @classmethod
    def over(cls, store: SqlStore, uuid: str) -> "Forgetful":
        made = cls.__new__(cls)
        made.__dict__.update(store.__dict__)
        made.forgotten = uuid
        return made

    forgotten = ""

    async def load_instances_by_uuid(self, uuids: Collection[str]) -> list[Instance]:
        if self.forgotten in uuids:
            raise StoreUnavailable("it is away")
        return await super().load_instances_by_uuid(uuids)


async def test_a_record_that_cannot_be_read_takes_no_outcome_from_the_others(waiting: Waiting) -> None:
    """What a retry had started was not told, and the run went on to call it failed."""
    _, power, fault = FAILURES[next(iter(FAILURES))]
    left = uuid_of(2)
    async with waiting.host(power=power, faults=[fault]) as host:
        brought = await host.starts()
        executor = replace(brought.host.executor, store=Forgetful.over(host.store, left))
        brought = replace(brought, host=replace(brought.host, executor=executor))
        again = Again(wanted={UUID, left}, because="retried", may=lambda _record: True)
        new = await settle_again(brought.host, brought.past, again)
        assert set(new) == {UUID}


async def test_a_retry_that_lacks_something_is_deferred_and_its_record_is_no_error_any_more(waiting: Waiting) -> None:
    fault = Fault(verb=START, error="DriverError", times=1)
    late = replace(DISK, name="/dev/sdc")
    async with waiting.host(DISK, late, faults=[fault]) as host:
        host.driver.meet(UUID, DISK.name)
        host.driver.meet(UUID, late.name)
        brought = await host.starts()
        assert only(brought).kind is Kind.FAILED
        host.driver.hypervisor.met.clear()
        brought = await try_again(brought, frozenset({UUID}))
        assert (only(brought).kind, await host.arranged.record(1)) == (Kind.DEFERRED, instance(1))


async def test_without_a_daemon_the_next_start_tries_it_again(waiting: Waiting) -> None:
    async with waiting.host(faults=[Fault(verb=START, error="DriverError", times=1)]) as host:
        assert only(await host.starts()).kind is Kind.FAILED
        skipped = only(await host.starts())
        assert (skipped.kind, skipped.because) == (Kind.SKIPPED, ("in_error",))
        # A run has passed it over since, and it is known all the same.
        assert await host.retries() == [UUID]
        assert only(await host.starts()).kind is Kind.INITIALIZED
        assert (host.started, host.arranged.power(1)) == (2, PowerState.RUNNING)
        assert await host.journal.retries() == frozenset()


async def test_a_record_that_somebody_has_changed_since_is_not_corrected(waiting: Waiting) -> None:
    async with waiting.host(faults=[Fault(verb=START, error="DriverError", times=1)]) as host:
        await host.starts()
        await host.becomes(task_state=TaskState.RESIZE_PREP)
        await host.retries(UUID)
        outcome = only(await host.starts())
        assert (outcome.kind, outcome.because) == (Kind.SKIPPED, ("in_error",))
        assert host.started == 1


async def test_a_record_that_was_in_error_before_stays_so(waiting: Waiting) -> None:
    async with waiting.host(records=[instance(1, vm_state=VmState.ERROR)]) as host:
        assert only(await host.starts()).kind is Kind.SKIPPED
        with pytest.raises(UsageError, match="neither failed nor deferred"):
            await host.retries(UUID)
        assert await host.retries() == []


async def test_a_guest_that_its_user_has_stopped_after_a_retry_stays_down(waiting: Waiting) -> None:
    async with waiting.host(faults=[Fault(verb=START, error="DriverError", times=1)]) as host:
        await host.starts()
        await host.retries()
        await host.starts()
        host.driver.guest_stops_itself(UUID)
        outcome = only(await host.starts())
        assert (outcome.because[-1], host.started) == ("resumed_on_boot_only", 2)


async def test_what_is_not_known_to_have_failed_cannot_be_tried_again(waiting: Waiting) -> None:
    async with waiting.host(power=PowerState.RUNNING) as host:
        await host.starts()
        assert await host.retries() == []
        for wrong in (UUID, "not-a-uuid"):
            with pytest.raises(UsageError):
                await host.retries(wrong)
