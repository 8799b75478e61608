"""What is deferred is waited for, tried again when an operator says so, and never started on a record that moved on."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import Kind, Outcome
from bringup.daemon.decisions.policies import ResumePolicy
from bringup.daemon.decisions.resume_policy import Resuming
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.errors import StoreUnavailable, UsageError
from bringup.daemon.liveness import Vitals
from bringup.daemon.recovery.arrivals import watched
from bringup.daemon.recovery.context import NeedsPolicy, Startup
from bringup.daemon.recovery.deferred_instances import (
    ALL_ROUNDS,
    Waits,
    deferred,
    due_in,
    look_again,
    needs_of,
    tried_again,
    wait_for_needs,
)
from bringup.daemon.recovery.init_host import Brought, init_host
from bringup.daemon.recovery.operator_requests import try_again
from bringup.daemon.recovery.settle_again import Again, settle_again
from bringup.daemon.service.journal_requests import retry
from bringup.daemon.service.standby import stand_by
from bringup.daemon.storage.journal import Journal
from bringup.daemon.storage.journal.sqlite import open_journal
from bringup.daemon.storage.store.base import Records
from bringup.daemon.storage.store.sql import SqlStore
from bringup.drivers.needs import MetBy, NeedKind
from bringup.drivers.simulated import Fault, SimulatedNeed, Verb
from bringup.drivers.simulated.transitions import POWER_ON
from support.drivers import uuid_of
from support.hosts import ELSEWHERE, ArrangedHost, arranged, guest, instance, now

pytestmark = pytest.mark.anyio

BOOT = uuid_of(8)
QUICK = NeedsPolicy(wait_s=60, first_s=0.01, longest_s=0.02, slowly_s=0.01)
DISK = SimulatedNeed(name="/dev/sdb", why="no such block device")
OFF = PowerState.SHUTDOWN
START: Verb = "resume_state_on_host_boot"
UUID = uuid_of(1)


class Waiting:
    """A host with a journal of its own that is brought back again and again."""

    def __init__(self, directory: Path) -> None:
        self.journal_path = directory / "journal.sqlite"
        self.runs = 0

    @asynccontextmanager
    async def host(
        self,
        *needs: SimulatedNeed,
        policy: NeedsPolicy = QUICK,
        records: Sequence[Instance] = (instance(1),),
        power: PowerState = OFF,
        faults: Sequence[Fault] = (),
    ) -> AsyncIterator["Host"]:
        async with (
            open_journal(self.journal_path, boot_id=BOOT, keep_runs=50, keep_days=90, now=now) as journal,
            arranged(
                records,
                guests=[guest(1, power, needs=needs)],
                resuming=Resuming(ResumePolicy(guests="on_host_boot")),
                journal=journal,
                needs=policy,
            ) as host,
        ):
            for fault in faults:
                host.driver.inject(fault)
            yield Host(self, host, journal)


class Host:
    """One arranged host, whose daemon may be begun more than once."""

    def __init__(self, waiting: Waiting, arranged_host: ArrangedHost, journal: Journal) -> None:
        self.waiting, self.arranged, self.journal = waiting, arranged_host, journal
        self.driver, self.store = arranged_host.driver, arranged_host.store

    async def starts(self) -> Brought:
        self.waiting.runs += 1
        host = replace(self.arranged.host, run_id=uuid_of(1000 + self.waiting.runs))

        async def open_host() -> Any:
            await anyio.lowlevel.checkpoint()
            return host

        async def nothing() -> None:
            await anyio.lowlevel.checkpoint()

        return await init_host(
            Startup(pass_placement=nothing, open_host=open_host, observer=self.arranged.progress.observe)
        )

    async def retries(self, *uuids: str) -> list[str]:
        return await retry(self.waiting.journal_path, BOOT, uuids)

    async def becomes(self, **columns: Any) -> None:
        record = await self.arranged.record(1)
        assert record is not None
        await self.store.import_records(Records(instances=(replace(record, **columns),), migrations=()))

    @property
    def started(self) -> int:
        return self.driver.count("resume_state_on_host_boot", UUID)


@pytest.fixture
def waiting(tmp_path: Path) -> Waiting:
    return Waiting(tmp_path)


def only(brought: Brought) -> Outcome:
    (outcome,) = brought.result.outcomes
    return outcome


# Waiting


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


# The daemon that stays


@asynccontextmanager
async def staying(brought: Brought) -> AsyncIterator[None]:
    async with anyio.create_task_group() as group:
        group.start_soon(stand_by, brought, Vitals())
        yield
        group.cancel_scope.cancel()


async def reported(host: Host, kind: Kind) -> None:
    with anyio.fail_after(60):
        while host.arranged.reports[-1].outcomes[0].kind is not kind:
            await anyio.wait_all_tasks_blocked()


async def test_the_daemon_that_stays_starts_what_has_come(waiting: Waiting) -> None:
    async with waiting.host(DISK) as host:
        async with staying(await host.starts()):
            host.driver.meet(UUID, DISK.name)
            await reported(host, Kind.INITIALIZED)
        assert (host.started, host.arranged.reports[-1].revision) == (1, 1)


NEVER = replace(QUICK, first_s=600, longest_s=600, slowly_s=600)
"""The periodic check does not come before the test is over."""


async def test_the_daemon_that_stays_starts_what_arrives_at_once(waiting: Waiting) -> None:
    async with waiting.host(DISK, policy=NEVER) as host:
        brought = await host.starts()
        async with staying(brought):
            await is_watched(host, DISK)
            host.driver.meet(UUID, DISK.name)
            await reported(host, Kind.INITIALIZED)
            # Nobody waits any more.
            await is_watched(host)
        assert (host.started, host.arranged.reports[-1].revision) == (1, 1)


async def test_what_arrives_when_the_periodic_check_of_others_is_due_is_checked_too(waiting: Waiting) -> None:
    rounds = 0

    def on_wait(count: int, _in_s: float) -> None:
        nonlocal rounds
        rounds += count

    # A check is due in each turn of the daemon; from the sixth on it is for those alone that nobody watches.
    async with waiting.host(DISK, policy=replace(QUICK, on_wait=on_wait)) as host:
        brought = await host.starts()
        async with staying(brought):
            await is_watched(host, DISK)
            while rounds <= ALL_ROUNDS + 1:
                await anyio.wait_all_tasks_blocked()
            asked = host.driver.count("needs")
            host.driver.meet(UUID, DISK.name)
            await reported(host, Kind.INITIALIZED)
        assert (host.started, rounds) == (1, ALL_ROUNDS + 2)
        assert asked > ALL_ROUNDS


async def test_a_run_that_ends_starts_what_arrives_at_once(waiting: Waiting) -> None:
    async with waiting.host(DISK, policy=NEVER) as host:
        brought = await host.starts()

        async def arrives() -> None:
            await is_watched(host, DISK)
            host.driver.meet(UUID, DISK.name)

        async with anyio.create_task_group() as group:
            group.start_soon(arrives)
            brought = await wait_for_needs(brought)
        assert (only(brought).kind, host.started) == (Kind.INITIALIZED, 1)
        assert host.driver.watching == []


async def test_a_wave_is_one_check_and_one_revision_and_goes_through_the_slots(tmp_path: Path) -> None:
    count = 30
    numbers = range(1, count + 1)
    async with (
        open_journal(tmp_path / "journal.sqlite", boot_id=BOOT, keep_runs=5, keep_days=5, now=now) as journal,
        arranged(
            [instance(number) for number in numbers],
            guests=[guest(number, OFF, needs=(DISK,)) for number in numbers],
            resuming=Resuming(ResumePolicy(guests="on_host_boot")),
            journal=journal,
            needs=NEVER,
        ) as made,
    ):
        brought = await init_host(made.start)
        assert brought.result.count(Kind.DEFERRED) == count
        slots, most = made.host.capacity.slots, [0.0]

        async def watch_slots() -> None:
            for number in numbers:
                await made.driver.entered(START, uuid_of(number))
                most.append(slots.borrowed_tokens)

        async with staying(brought), anyio.create_task_group() as group:
            group.start_soon(watch_slots)
            while not made.driver.watching:
                await anyio.wait_all_tasks_blocked()
            loads = made.trace.names().count("store.load_instances")
            for number in numbers:
                made.driver.meet(uuid_of(number), DISK.name)
            with anyio.fail_after(60):
                while made.reports[-1].count(Kind.INITIALIZED) < count:
                    await anyio.wait_all_tasks_blocked()
        assert [one.revision for one in made.reports] == [0, 1]
        assert made.trace.names().count("store.load_instances") == loads + 1
        assert max(most) <= slots.total_tokens


async def test_what_a_guest_lacks_then_is_shown_and_watched(waiting: Waiting) -> None:
    """The mount came, and the disk on it is missing."""
    mount = SimulatedNeed(kind=NeedKind.MOUNT, name="/mnt", why="nothing is mounted there")
    async with waiting.host(mount, policy=NEVER) as host:
        brought = await host.starts()
        async with staying(brought):
            await is_watched(host, mount)
            host.driver.lacks(UUID, DISK)
            host.driver.meet(UUID, mount.name)
            await is_watched(host, DISK)
            host.driver.meet(UUID, DISK.name)
            await reported(host, Kind.INITIALIZED)
    assert [[need.name for need in one.outcomes[0].needs] for one in host.arranged.reports] == [
        ["/mnt"],
        ["/dev/sdb"],
        [],
    ]


async def test_a_watch_that_fails_leaves_the_periodic_check(waiting: Waiting) -> None:
    async with waiting.host(DISK) as host:
        brought = await host.starts()
        host.arranged.trace.fail("driver.watch_needs", OSError("no inotify"))
        async with staying(brought):
            host.driver.meet(UUID, DISK.name, silently=True)
            await reported(host, Kind.INITIALIZED)
    assert host.started == 1


@pytest.mark.parametrize("policy", [replace(QUICK, wait_s=0), replace(QUICK, daemon_starts=False)])
async def test_nothing_is_watched_that_the_daemon_would_not_start(waiting: Waiting, policy: NeedsPolicy) -> None:
    async with waiting.host(DISK, policy=policy) as host:
        brought = await host.starts()
        async with staying(brought):
            looks = host.driver.count("get_info")
            await anyio.wait_all_tasks_blocked()
            host.driver.meet(UUID, DISK.name)
            if policy.wait_s:
                await host.driver.entered("get_info", times=looks + 2)
            assert host.driver.watching == []
    assert host.started == 0


async def is_watched(host: Host, *needs: SimulatedNeed) -> None:
    """Wait until these needs are watched, and no others."""
    with anyio.fail_after(60):
        while {need.name for watched, _ in host.driver.watching for need in watched} != {one.name for one in needs}:
            await anyio.wait_all_tasks_blocked()


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


# An operator's word

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


async def test_what_is_not_known_to_have_failed_cannot_be_tried_again(waiting: Waiting) -> None:
    async with waiting.host(power=PowerState.RUNNING) as host:
        await host.starts()
        assert await host.retries() == []
        for wrong in (UUID, "not-a-uuid"):
            with pytest.raises(UsageError):
                await host.retries(wrong)
