"""The daemon that stays starts what has come, at once where its arrival is reported."""

from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.policies import ResumePolicy
from bringup.daemon.decisions.resume_policy import Resuming
from bringup.daemon.recovery.context import NeedsPolicy
from bringup.daemon.recovery.deferred_instances import (
    ALL_ROUNDS,
    wait_for_needs,
)
from bringup.daemon.recovery.init_host import init_host
from bringup.daemon.storage.journal.sqlite import open_journal
from bringup.drivers.needs import NeedKind
from bringup.drivers.simulated import SimulatedNeed
from support.drivers import uuid_of
from support.hosts import arranged, guest, instance, now
from support.waiting_host import BOOT, DISK, OFF, QUICK, START, UUID, Waiting, is_watched, only, reported, staying

pytestmark = pytest.mark.anyio


@pytest.fixture
def waiting(tmp_path: Path) -> Waiting:
    return Waiting(tmp_path)


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
