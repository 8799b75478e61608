"""What is deferred is waited for, and never started on a record that moved on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.recovery.arrivals import watched
from bringup.daemon.recovery.context import NeedsPolicy
from bringup.daemon.recovery.deferred_instances import (
    Waits,
    deferred,
    due_in,
    look_again,
    needs_of,
    tried_again,
    wait_for_needs,
)
from bringup.daemon.recovery.operator_requests import try_again
from bringup.drivers.needs import MetBy, NeedKind
from bringup.drivers.simulated import Fault, SimulatedNeed
from bringup.drivers.simulated.transitions import POWER_ON
from support.hosts import ELSEWHERE, instance
from support.waiting_host import DISK, OFF, QUICK, UUID, Waiting, only

pytestmark = pytest.mark.anyio


@pytest.fixture
def waiting(tmp_path: Path) -> Waiting:
    return Waiting(tmp_path)


async def test_what_comes_while_it_is_waited_for_is_started_and_reported_once_more(waiting: Waiting) -> None:
    async with waiting.host(DISK) as host:
        brought = await host.starts()
        assert (only(brought).kind, host.started) == (Kind.DEFERRED, 0)

        async with anyio.create_task_group() as group:
            group.start_soon(host.driver.entered, "needs", UUID)
            asked = host.driver.count("needs")

            async def meet_need() -> None:
                await host.driver.entered("needs", UUID, times=asked + 3)
                host.driver.meet(UUID, DISK.name)

            group.start_soon(meet_need)
            brought = await wait_for_needs(brought)

        assert (only(brought).kind, host.started, brought.result.revision) == (Kind.INITIALIZED, 1, 1)
        assert [one.revision for one in host.arranged.reports] == [0, 1]
        assert host.arranged.power(1) is PowerState.RUNNING
        assert await host.arranged.record(1) == instance(1)


async def test_what_does_not_come_in_time_stays_deferred_and_its_record_as_it_was(waiting: Waiting) -> None:
    async with waiting.host(DISK, policy=replace(QUICK, wait_s=0.1)) as host:
        brought = await wait_for_needs(await host.starts())
        assert (only(brought).kind, host.started, brought.result.revision) == (Kind.DEFERRED, 0, 0)
        assert len(host.arranged.reports) == 1
        assert await host.arranged.record(1) == instance(1)
        assert host.driver.count("needs") > 2


@pytest.mark.parametrize("met_by", [MetBy.NOVA, MetBy.PERSON])
async def test_a_run_does_not_wait_for_what_only_nova_or_an_operator_can_do(waiting: Waiting, met_by: MetBy) -> None:
    async with waiting.host(replace(DISK, met_by=met_by)) as host:
        brought = await host.starts()
        asked = host.driver.count("needs")
        assert only(await wait_for_needs(brought)).kind is Kind.DEFERRED
        assert host.driver.count("needs") == asked


async def test_nothing_is_waited_for_where_the_setting_reports_it(waiting: Waiting) -> None:
    async with waiting.host(DISK, policy=replace(QUICK, wait_s=0)) as host:
        brought = await host.starts()
        host.driver.meet(UUID, DISK.name)
        assert only(await wait_for_needs(brought)).kind is Kind.DEFERRED
        assert host.started == 0


CHANGES: dict[str, dict[str, Any]] = {
    "stopped by its user": {"vm_state": VmState.STOPPED, "power_state": OFF},
    "being rebooted by nova-compute": {"task_state": TaskState.REBOOT_STARTED_HARD},
    "being started": {"task_state": TaskState.POWERING_ON},
    "being deleted": {"task_state": TaskState.DELETING},
    "evacuated": {"host": ELSEWHERE},
    "set to error": {"vm_state": VmState.ERROR},
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_record_that_somebody_changes_meanwhile_is_left_to_him(waiting: Waiting, change: str) -> None:
    async with waiting.host(DISK) as host:
        brought = await host.starts()
        await host.becomes(**CHANGES[change])
        changed = await host.arranged.record(1)
        host.driver.meet(UUID, DISK.name)
        brought = await look_again(brought, deferred(brought))
        assert (only(brought).kind, host.started) == (Kind.SUPERSEDED, 0)
        assert host.driver.count("reboot") == host.driver.count("power_on") == host.driver.count("destroy") == 0
        assert await host.arranged.record(1) == changed


async def test_one_that_is_deleted_meanwhile_is_reported_as_deleted(waiting: Waiting) -> None:
    async with waiting.host(DISK) as host:
        brought = await host.starts()
        await host.store.destroy(UUID)
        brought = await look_again(brought, deferred(brought))
        assert (only(brought).kind, only(brought).deleted, host.started) == (Kind.SUPERSEDED, True, 0)


@pytest.mark.parametrize("starts", [True, False])
async def test_one_that_somebody_else_has_started_is_back_though_nothing_is_met(
    waiting: Waiting, *, starts: bool
) -> None:
    async with waiting.host(replace(DISK, met_by=MetBy.NOVA)) as host:
        brought = await host.starts()
        host.driver.hypervisor.move("power_on", UUID, POWER_ON)
        brought = await look_again(brought, deferred(brought), starts=starts)
        assert (only(brought).kind, only(brought).because[-1], host.started) == (Kind.INITIALIZED, "runs", 0)


async def test_a_daemon_beside_nova_compute_starts_nothing_by_itself(waiting: Waiting) -> None:
    async with waiting.host(DISK) as host:
        brought = await host.starts()
        host.driver.meet(UUID, DISK.name)
        brought = await look_again(brought, deferred(brought), starts=False)
        assert (only(brought).kind, host.started, brought.result.revision) == (Kind.DEFERRED, 0, 0)


async def test_a_guest_that_waits_holds_no_slot(waiting: Waiting) -> None:
    told = anyio.Event()

    def on_wait(count: int, _in_s: float) -> None:
        if count:
            told.set()

    async with waiting.host(DISK, policy=replace(QUICK, first_s=60, longest_s=60, on_wait=on_wait)) as host:
        slots = host.arranged.host.capacity.slots
        brought = await host.starts()
        async with anyio.create_task_group() as group:
            group.start_soon(wait_for_needs, brought)
            await told.wait()
            assert slots.borrowed_tokens == 0
            group.cancel_scope.cancel()


async def test_waits_grow_are_jittered_and_are_minutes_once_the_time_is_over() -> None:
    policy = NeedsPolicy(wait_s=600)
    waits = Waits(policy)
    for longest_s in (2, 4, 8, 16, 30, 30, 30):
        assert longest_s / 2 <= waits.next_s() <= longest_s
    waits.began -= 601
    assert all(200 <= waits.next_s() <= 280 for _ in range(50))
    assert len({waits.next_s() for _ in range(50)}) > 1


async def test_what_is_watched_is_checked_in_every_eighth_round_after_the_first_five() -> None:
    waits = Waits(NeedsPolicy(wait_s=600))
    for_all = []
    for _ in range(17):
        waits.next_s()
        for_all.append(waits.is_for_all)
    assert [number for number, is_so in enumerate(for_all, start=1) if is_so] == [1, 2, 3, 4, 5, 8, 16]
    waits.began -= 601
    assert waits.is_for_all


async def test_what_is_not_watched_is_checked_in_each_round(waiting: Waiting) -> None:
    pages = SimulatedNeed(kind=NeedKind.MEMORY, name="512 huge pages", why="0 are free")
    waits = Waits(QUICK, rounds=6)
    for need, is_due in ((DISK, False), (pages, True)):
        async with waiting.host(need) as host:
            brought = await host.starts()
            async with watched(host.arranged.host.driver) as arrivals:
                found = tried_again(brought)
                arrivals.follow(needs_of(found))
                assert (due_in(waits, found, arrivals) == found) is is_due
                # Nobody watches it: it is checked in each round.
                arrivals.follow(())
                assert due_in(waits, found, arrivals) == found


# Starts that had no turn


async def test_what_was_deferred_has_its_turn_at_the_next_start_of_the_same_boot(waiting: Waiting) -> None:
    async with waiting.host(DISK) as host:
        assert only(await host.starts()).kind is Kind.DEFERRED
        assert only(await host.starts()).kind is Kind.DEFERRED
        host.driver.meet(UUID, DISK.name)
        assert only(await host.starts()).kind is Kind.INITIALIZED
        assert host.started == 1
        host.driver.guest_stops_itself(UUID)
        assert only(await host.starts()).because[-1] == "resumed_on_boot_only"


async def test_killed_while_it_waits_the_next_start_comes_to_the_same_end(waiting: Waiting) -> None:
    async with waiting.host(DISK) as host:
        brought = await host.starts()
        with anyio.move_on_after(0.1):
            await wait_for_needs(brought)
        host.driver.meet(UUID, DISK.name)
        assert only(await host.starts()).kind is Kind.INITIALIZED
        assert host.started == 1


async def test_a_guest_that_ran_while_it_was_deferred_has_had_its_turn(waiting: Waiting) -> None:
    away = Fault(verb="plug_vifs", error="NeedNotMet", times=1)
    async with waiting.host(power=PowerState.RUNNING, faults=[away]) as host:
        assert only(await host.starts()).kind is Kind.DEFERRED
        host.driver.guest_stops_itself(UUID)
        assert only(await host.starts()).because[-1] == "resumed_on_boot_only"
        assert host.started == 0


@pytest.mark.parametrize("by_word", [True, False], ids=["retried", "looked at again"])
async def test_a_guest_that_ran_while_it_was_deferred_and_was_stopped_since_is_not_started_by_the_daemon(
    waiting: Waiting, *, by_word: bool
) -> None:
    away = Fault(verb="plug_vifs", error="NeedNotMet", times=1)
    async with waiting.host(power=PowerState.RUNNING, faults=[away]) as host:
        brought = await host.starts()
        host.driver.guest_stops_itself(UUID)
        if by_word:
            brought = await try_again(brought, frozenset({UUID}))
        else:
            brought = await look_again(brought, deferred(brought))
        assert (only(brought).because[-1], host.started) == ("resumed_on_boot_only", 0)
