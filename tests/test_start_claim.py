"""Right before a guest is started its instance is claimed; two hosts never start one."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from bringup.daemon.decisions.instances import Expected, Instance
from bringup.daemon.decisions.outcomes import Kind, Outcome
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.errors import LeaseHeld, StoreError
from bringup.daemon.storage.store.base import Claimant, Records
from bringup.drivers.simulated import Fault
from support.drivers import uuid_of
from support.hosts import CLAIMANT, ELSEWHERE, HOST, ArrangedHost, arranged, evacuation, guest, instance, outcome_of
from support.records import migration

pytestmark = pytest.mark.anyio

OFF = PowerState.SHUTDOWN
STARTS: dict[str, dict[str, Any]] = {
    "power_on": {"task_state": TaskState.POWERING_ON, "vm_state": VmState.STOPPED, "power_state": OFF},
    "reboot": {"task_state": TaskState.REBOOT_PENDING_HARD},
    "unpause": {"task_state": TaskState.UNPAUSING, "vm_state": VmState.PAUSED, "power_state": PowerState.PAUSED},
    "resume_state_on_host_boot": {},
    "finish_revert_migration": {
        "task_state": TaskState.RESIZE_MIGRATING,
        "system_metadata": {"old_vm_state": "active"},
    },
}
BEFORE = {"unpause": PowerState.PAUSED}


def moving(kind: str, status: str) -> Callable[[ArrangedHost], Awaitable[None]]:
    async def move(host: ArrangedHost) -> None:
        one = migration(1, migration_type=kind, status=status)
        record = await host.store.get_instance(uuid_of(1))
        await host.store.import_records(Records(instances=(record,), migrations=(one,)))

    return move


async def moved(host: ArrangedHost) -> None:
    record = await host.store.get_instance(uuid_of(1))
    await import_as(host, record, ELSEWHERE)


async def import_as(host: ArrangedHost, record: Instance, name: str) -> None:
    columns = {"vm_state": record.vm_state, "task_state": record.task_state, "power_state": record.power_state}
    changed = instance(1, host=name, system_metadata=record.system_metadata, **columns)
    await host.store.import_records(Records(instances=(changed,)))


async def claimed_elsewhere(host: ArrangedHost) -> None:
    other = Claimant(ELSEWHERE, "node-2")
    record = await host.store.get_instance(uuid_of(1))
    await host.store.take_lease(other, for_s=60)
    await import_as(host, record, ELSEWHERE)
    expected = Expected((record.vm_state,), (record.task_state,))
    await host.store.begin_start(uuid_of(1), other, expected=expected, reverting=False)
    await import_as(host, record, HOST)


CHANGES: dict[str, Callable[[ArrangedHost], Awaitable[None]]] = {
    "another host": moved,
    "evacuation accepted": moving("evacuation", "accepted"),
    "evacuation running": moving("evacuation", "pre-migrating"),
    "live migration": moving("live-migration", "preparing"),
    "claimed": claimed_elsewhere,
}


async def run_with(verb: str, change: Callable[[ArrangedHost], Awaitable[None]]) -> tuple[Outcome, ArrangedHost]:
    """Run while something changes after the decision, right before the claim."""
    facts = STARTS[verb]
    async with arranged([instance(1, **facts)], guests=[guest(1, BEFORE.get(verb, OFF))], resume_guests=True) as host:
        object.__setattr__(host.host.executor.start_claim, "store", _Claims(host, change))
        result = await host.run()
        return outcome_of(result, 1), host


class _Claims:
    """The store as the fence sees it: something changes before the first claim, or before it is let go."""

    def __init__(
        self, host: ArrangedHost, before: Callable[[ArrangedHost], Awaitable[None]] | None, *, at_end: bool = False
    ) -> None:
        self._host, self._before, self._at_end = host, before, at_end

    async def begin_start(self, *args: Any, **kwargs: Any) -> Instance:
        if self._before is not None and not self._at_end:
            await self._before(self._host)
        return await self._host.store.begin_start(*args, **kwargs)

    async def end_start(self, *args: Any, **kwargs: Any) -> None:
        if self._before is not None and self._at_end:
            await self._before(self._host)
        await self._host.store.end_start(*args, **kwargs)


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("verb", STARTS)
async def test_what_changed_since_the_decision_starts_nothing(verb: str, what: str) -> None:
    outcome, host = await run_with(verb, CHANGES[what])

    assert outcome.kind is Kind.SUPERSEDED
    assert outcome.problem is not None
    assert outcome.problem.error == "NotOursToStart"
    assert host.driver.count(verb, uuid_of(1)) == 0  # type: ignore[arg-type]
    assert host.power(1) is BEFORE.get(verb, OFF)


@pytest.mark.parametrize("kind", ["migration", "resize"])
@pytest.mark.parametrize("verb", STARTS)
async def test_a_cold_migration_under_way_is_no_obstacle_to_what_rolls_it_back(verb: str, kind: str) -> None:
    outcome, _host = await run_with(verb, moving(kind, "migrating"))

    reverts = verb == "finish_revert_migration"
    assert outcome.kind is (Kind.INITIALIZED if reverts else Kind.SUPERSEDED)


@pytest.mark.parametrize("status", ["done", "completed", "error", "failed", "cancelled"])
@pytest.mark.parametrize("verb", STARTS)
async def test_a_migration_that_is_over_is_no_obstacle(verb: str, status: str) -> None:
    outcome, host = await run_with(verb, moving("live-migration", status))

    assert outcome.kind is Kind.INITIALIZED
    assert host.power(1) is PowerState.RUNNING


@pytest.mark.parametrize("verb", STARTS)
async def test_a_guest_that_moved_while_it_was_started_is_stopped_again(verb: str) -> None:
    facts = STARTS[verb]
    async with arranged([instance(1, **facts)], guests=[guest(1, BEFORE.get(verb, OFF))], resume_guests=True) as host:
        object.__setattr__(host.host.executor.start_claim, "store", _Claims(host, moved, at_end=True))
        result = await host.run()

        outcome = outcome_of(result, 1)
        assert outcome.kind is Kind.SUPERSEDED
        assert host.power(1) is OFF
        record = await host.record(1)
        assert record is not None
        assert (record.host, record.vm_state) == (ELSEWHERE, facts.get("vm_state", VmState.ACTIVE))


async def test_a_lease_that_is_lost_starts_and_destroys_nothing_and_changes_no_record() -> None:
    records = [
        instance(1),
        instance(2, task_state=TaskState.DELETING),
        instance(3, host=ELSEWHERE),
        instance(4, task_state=TaskState.POWERING_ON, vm_state=VmState.STOPPED, power_state=OFF),
    ]
    guests = [guest(number, OFF) for number in (1, 2, 3, 4)]
    async with arranged(records, guests=guests, migrations=[evacuation(3)], resume_guests=True) as host:

        def lost() -> None:
            raise LeaseHeld("the lease of host compute-1 was not renewed in time")

        object.__setattr__(host.host.executor.start_claim, "check_lease", lost)
        result = await host.run()

        assert {outcome.kind for outcome in result.outcomes} == {Kind.SUPERSEDED}
        assert [await host.record(number) for number in (1, 2, 3, 4)] == records
        assert host.power(3) is OFF
        assert host.driver.count("destroy") == host.driver.count("power_on") == 0


async def test_a_store_that_does_not_answer_starts_nothing_and_calls_nobody_broken() -> None:
    async with arranged([instance(1)], guests=[guest(1, OFF)], resume_guests=True) as host:
        host.trace.fail("store.begin_start", StoreError("the disk is gone"))
        outcome = outcome_of(await host.run(), 1)

        assert (outcome.kind, host.power(1)) == (Kind.FAILED, OFF)
        assert await host.record(1) == instance(1)


async def test_a_claim_is_released_when_the_start_fails() -> None:
    powering_on = instance(1, **STARTS["power_on"])
    async with arranged([powering_on], guests=[guest(1, OFF)]) as host:
        host.driver.inject(Fault(verb="power_on", uuid=uuid_of(1), error="DriverError"))
        assert outcome_of(await host.run(), 1).kind is Kind.FAILED

        await import_as(host, powering_on, ELSEWHERE)
        other = Claimant(ELSEWHERE, "node-2")
        await host.store.take_lease(other, for_s=60)
        expected = Expected((VmState.STOPPED,), (TaskState.POWERING_ON,))
        await host.store.begin_start(uuid_of(1), other, expected=expected, reverting=False)


async def test_a_claim_is_released_when_the_run_is_stopped() -> None:
    powering_on = instance(1, **STARTS["power_on"])
    async with arranged([powering_on], guests=[guest(1, OFF)]) as host:
        host.driver.inject(Fault(verb="power_on", uuid=uuid_of(1), hang=True))
        async with anyio.create_task_group() as group:
            group.start_soon(host.run)
            await host.driver.entered("power_on")
            group.cancel_scope.cancel()

        assert host.trace.names().count("store.end_start") == 1
        await host.store.end_start(uuid_of(1), CLAIMANT, reverting=False)
