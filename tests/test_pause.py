"""A pause of starts: nothing more is started until it is over, and nothing else waits for that."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import Did, Kind
from bringup.daemon.decisions.policies import Guards, ResumePolicy
from bringup.daemon.decisions.resume_policy import Resuming
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.errors import JournalError, UsageError
from bringup.daemon.liveness import Vitals
from bringup.daemon.recovery.context import NeedsPolicy
from bringup.daemon.recovery.deferred_instances import held_back, wait_for_needs
from bringup.daemon.recovery.init_host import Brought, init_host
from bringup.daemon.recovery.pause import Pause
from bringup.daemon.service.journal_requests import pause, release, resume, retry, time_span
from bringup.daemon.service.standby import stand_by, wait_out_pause
from bringup.daemon.storage.journal import NO_JOURNAL, Journal, StartPause
from bringup.daemon.storage.journal.sqlite import open_journal
from bringup.daemon.storage.store.base import Records
from bringup.drivers.simulated import Fault, SimulatedNeed
from support.drivers import uuid_of
from support.hosts import ELSEWHERE, ArrangedHost, arranged, evacuation, guest, instance, now

pytestmark = pytest.mark.anyio

BOOT = uuid_of(8)
LONG_S = 3600.0
NOBODY = 65534
OFF, ON = PowerState.SHUTDOWN, PowerState.RUNNING
DISK = SimulatedNeed(name="/dev/sdb", why="no such block device")
QUICK = NeedsPolicy(wait_s=60, first_s=0.01, longest_s=0.02, slowly_s=0.01)


@dataclass
class Paused:
    """A host with a journal, to which an operator speaks as the command does."""

    arranged: ArrangedHost
    path: Path
    runs: int = 0

    @property
    def pause(self) -> Pause:
        return self.arranged.host.pause

    async def starts(self) -> Brought:
        """Start a daemon, which reads from the journal whether starts are paused."""
        self.runs += 1
        before = self.arranged.host
        claim = replace(before.executor.start_claim, pause=Pause(before.journal))
        executor = replace(before.executor, start_claim=claim)
        self.arranged.host = replace(before, executor=executor, run_id=uuid_of(1000 + self.runs))

        async def open_host() -> Any:
            await anyio.lowlevel.checkpoint()
            return self.arranged.host

        return await init_host(replace(self.arranged.start, open_host=open_host))

    async def is_paused(self) -> None:
        """Pause, and read it in the daemon that runs."""
        await pause(self.path, LONG_S)
        await self.pause.read()

    async def resumes(self) -> None:
        assert await resume(self.path) is not None
        await self.pause.read()

    def kinds(self, brought: Brought) -> dict[int, Kind]:
        return {int(each.uuid[-12:], 16): each.kind for each in brought.result.outcomes}

    @asynccontextmanager
    async def staying(self, brought: Brought) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(self.pause.follow)
            group.start_soon(stand_by, brought, Vitals())
            yield
            group.cancel_scope.cancel()

    async def reported(self, number: int, kind: Kind) -> None:
        with anyio.fail_after(60):
            while True:
                last = {each.uuid: each.kind for each in self.arranged.reports[-1].outcomes}
                if last.get(uuid_of(number)) is kind:
                    return
                await anyio.wait_all_tasks_blocked()


@asynccontextmanager
async def host(
    directory: Path, records: Sequence[Instance], powers: Sequence[PowerState], **more: Any
) -> AsyncIterator[Paused]:
    path = directory / "journal.sqlite"
    guests = [
        guest(number, power, **more.pop("guest", {}) if number == 1 else {})
        for number, power in enumerate(powers, start=1)
    ]
    more.setdefault("needs", QUICK)
    async with (
        open_journal(path, boot_id=BOOT, keep_runs=50, keep_days=90, now=now) as journal,
        arranged(
            records,
            guests=guests,
            resuming=Resuming(ResumePolicy(guests="on_host_boot")),
            journal=journal,
            **more,
        ) as made,
    ):
        yield Paused(made, path)


async def test_what_would_be_started_waits_and_what_would_not_does_not(tmp_path: Path) -> None:
    records = [
        instance(1),
        instance(2),
        instance(3, task_state=TaskState.DELETING),
        instance(4, task_state=TaskState.POWERING_OFF),
        instance(5, vm_state=VmState.STOPPED, power_state=OFF, task_state=TaskState.POWERING_ON),
    ]
    async with host(tmp_path, records, [OFF, ON, ON, ON, OFF]) as one:
        await one.is_paused()
        brought = await one.starts()

        assert one.kinds(brought) == {
            1: Kind.DEFERRED,
            2: Kind.INITIALIZED,
            3: Kind.INITIALIZED,
            4: Kind.INITIALIZED,
            5: Kind.DEFERRED,
        }
        did = {int(each.uuid[-12:], 16): each.did for each in brought.result.outcomes}
        assert (did[2], did[3], did[4]) == (Did.LEFT_RUNNING, Did.DELETED, Did.STOPPED)
        # The report does not wait, and both records are as they were.
        assert [each.revision for each in one.arranged.reports] == [0]
        assert [await one.arranged.record(number) for number in (1, 5)] == [records[0], records[4]]
        assert held_back(brought).keys() == {uuid_of(1), uuid_of(5)}

        await one.resumes()
        brought = await wait_out_pause(brought, Vitals())

        assert set(one.kinds(brought).values()) == {Kind.INITIALIZED}
        assert (one.arranged.power(1), one.arranged.power(5)) == (ON, ON)
        assert [each.revision for each in one.arranged.reports] == [0, 1]


async def test_an_instance_says_until_when_it_waits_and_what_ends_that(tmp_path: Path) -> None:
    async with host(tmp_path, [instance(1)], [OFF]) as one:
        await one.is_paused()
        [outcome] = (await one.starts()).result.outcomes

    assert outcome.problem is not None
    assert outcome.problem.error == "Paused"
    assert "starts are paused by an operator until" in outcome.problem.message
    assert "bringup resume" in outcome.problem.message


async def test_a_start_that_was_decided_before_the_pause_is_not_begun_in_it(tmp_path: Path) -> None:
    """The needs were checked before: the pause is seen again right before the call."""
    fault = Fault(verb="plug_vifs", hang=True, times=1)
    async with host(tmp_path, [instance(1)], [OFF]) as one:
        one.arranged.driver.inject(fault)
        brought: list[Brought] = []

        async def bring() -> None:
            brought.append(await one.starts())

        async with anyio.create_task_group() as group:
            group.start_soon(bring)
            await one.arranged.driver.entered("plug_vifs", uuid_of(1))
            await one.is_paused()
            one.arranged.driver.lift(fault)

        assert one.kinds(brought[0]) == {1: Kind.DEFERRED}
        assert one.arranged.driver.count("resume_state_on_host_boot") == 0
        assert await one.arranged.record(1) == instance(1)


async def test_it_ends_by_itself_however_wrong_the_clock_is() -> None:
    moment = datetime(2026, 1, 1, 12, tzinfo=UTC)

    class Requested(Journal):
        async def pause(self) -> StartPause | None:
            return StartPause(since=moment, until=moment + timedelta(seconds=0.05))

    heard: list[tuple[str, str]] = []
    for now_ in (moment - timedelta(days=20_000), moment, moment + timedelta(hours=1)):
        heard.clear()
        one = Pause(Requested(), lambda now_=now_: now_, lambda *span: heard.append(span))  # type: ignore[misc]
        await one.read()
        assert one.is_active is (now_ <= moment)
        async with anyio.create_task_group() as group:
            group.start_soon(one.follow)
            while one.is_active or len(heard) % 2:
                await anyio.wait_all_tasks_blocked()
            # It is read once more, and does not begin again.
            await one.read()
            group.cancel_scope.cancel()
        assert not one.is_active
        assert heard[1:] == ([("", "")] if heard else [])


async def test_a_journal_that_cannot_be_read_neither_begins_nor_ends_it_and_that_is_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Broken(Journal):
        found: StartPause | None = None

        async def pause(self) -> StartPause | None:
            if self.found is None:
                raise JournalError("no disk")
            found, self.found = self.found, None
            return found

    journal = Broken()
    one = Pause(journal)
    await one.read()
    await one.read()
    assert not one.is_active
    assert [("error" in line, "pause.unknown" in line) for line in capsys.readouterr().out.splitlines()] == [
        (True, True)
    ]
    journal.found = StartPause(since=datetime.now(UTC), until=datetime.now(UTC) + timedelta(hours=1))
    await one.read()
    await one.read()
    assert one.is_active


async def test_without_a_state_directory_the_request_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"host\.state_directory: .*/none is not there; make it"):
        await pause(tmp_path / "none" / "journal.sqlite", LONG_S)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may create files for others")
async def test_root_requests_it_for_the_user_of_the_daemon_before_there_is_a_journal(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    await pause(folder / "journal.sqlite", LONG_S)
    assert {(each.stat().st_uid, each.stat().st_gid) for each in folder.iterdir()} == {(NOBODY, NOBODY)}


async def test_it_outlives_the_daemon(tmp_path: Path) -> None:
    async with host(tmp_path, [instance(1)], [OFF]) as one:
        await pause(one.path, LONG_S)
        assert one.kinds(await one.starts()) == {1: Kind.DEFERRED}
        assert one.kinds(await one.starts()) == {1: Kind.DEFERRED}
        await one.resumes()
        assert one.kinds(await one.starts()) == {1: Kind.INITIALIZED}


async def test_the_host_is_not_back_while_it_keeps_guests_off_and_requests_are_carried_out(tmp_path: Path) -> None:
    """A deletion that a guard holds is released during the pause; the start waits."""
    guards = Guards(destroy_freely=0, destroy_at_most=0)
    records = [instance(1), instance(2, host=ELSEWHERE)]
    async with host(tmp_path, records, [OFF, ON], guards=guards, migrations=[evacuation(2)]) as one:
        await one.is_paused()
        brought = await one.starts()
        assert one.kinds(brought) == {1: Kind.DEFERRED, 2: Kind.HELD}
        ended: list[Brought] = []

        async def wait() -> None:
            ended.append(await wait_out_pause(brought, Vitals()))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await release(one.path, [])
            await one.reported(2, Kind.INITIALIZED)
            assert (one.arranged.power(1), one.arranged.power(2), ended) == (OFF, None, [])
            await one.resumes()
        assert set(one.kinds(ended[0]).values()) == {Kind.INITIALIZED}
        assert one.arranged.power(1) is ON


async def test_what_an_operator_retries_during_it_is_started_at_its_end_as_requested(tmp_path: Path) -> None:
    fault = Fault(verb="resume_state_on_host_boot", error="DriverError", times=1)
    async with host(tmp_path, [instance(1)], [OFF]) as one:
        one.arranged.driver.inject(fault)
        brought = await one.starts()
        assert one.kinds(brought) == {1: Kind.FAILED}
        await one.is_paused()
        async with one.staying(brought):
            await retry(one.path, BOOT, [])
            await one.reported(1, Kind.DEFERRED)
            # The record is restored, and the request is not forgotten.
            assert await one.arranged.record(1) == instance(1)
            assert await one.pause.journal.retries() == {uuid_of(1)}
            await resume(one.path)
            await one.reported(1, Kind.INITIALIZED)
        assert one.arranged.power(1) is ON
        assert await one.pause.journal.retries() == frozenset()


async def test_what_arrives_during_it_is_started_at_its_end(tmp_path: Path) -> None:
    async with host(tmp_path, [instance(1)], [OFF], guest={"needs": (DISK,)}) as one:
        brought = await one.starts()
        assert one.kinds(brought) == {1: Kind.DEFERRED}
        await one.is_paused()
        async with one.staying(brought):
            one.arranged.driver.meet(uuid_of(1), DISK.name)
            looks = one.arranged.driver.count("get_info")
            await one.arranged.driver.entered("get_info", times=looks + 3)
            assert one.arranged.power(1) is OFF
            await resume(one.path)
            await one.reported(1, Kind.INITIALIZED)
        assert one.arranged.driver.count("resume_state_on_host_boot") == 1


async def test_beside_nova_compute_the_guests_that_only_it_kept_off_are_started_too(tmp_path: Path) -> None:
    policy = replace(QUICK, daemon_starts=False)
    async with host(tmp_path, [instance(1)], [OFF], needs=policy) as one:
        await one.is_paused()
        brought = await one.starts()
        await one.resumes()
        assert one.kinds(await wait_out_pause(brought, Vitals())) == {1: Kind.INITIALIZED}


async def test_at_its_end_a_start_is_tried_until_libvirt_answers_again(tmp_path: Path) -> None:
    """The host is not back before: a nova-compute would find the guest off."""
    async with host(tmp_path, [instance(1)], [OFF]) as one:
        await one.is_paused()
        brought = await one.starts()
        one.arranged.driver.inject(Fault(verb="get_info", error="DriverError", times=2))
        await one.resumes()
        assert one.kinds(await wait_out_pause(brought, Vitals())) == {1: Kind.INITIALIZED}


async def test_at_its_end_the_host_does_not_wait_forever_for_libvirt(tmp_path: Path) -> None:
    async with host(tmp_path, [instance(1)], [OFF]) as one:
        await one.is_paused()
        brought = await one.starts()
        limits = replace(one.arranged.host.limits, host_deadline=0.1)
        brought = replace(brought, host=replace(one.arranged.host, limits=limits))
        one.arranged.driver.inject(Fault(verb="get_info", error="DriverError"))
        await one.resumes()
        with anyio.fail_after(60):
            assert one.kinds(await wait_out_pause(brought, Vitals())) == {1: Kind.DEFERRED}


async def test_a_run_that_ends_waits_for_it_also_where_it_waits_for_nothing_else(tmp_path: Path) -> None:
    async with host(tmp_path, [instance(1)], [OFF], needs=replace(QUICK, wait_s=0)) as one:
        await one.is_paused()
        brought = await one.starts()

        async def end() -> None:
            await anyio.wait_all_tasks_blocked()
            await one.resumes()

        async with anyio.create_task_group() as group:
            group.start_soon(end)
            brought = await wait_for_needs(await wait_out_pause(brought, Vitals()))
        assert one.kinds(brought) == {1: Kind.INITIALIZED}


@pytest.mark.parametrize("change", [{"vm_state": VmState.STOPPED}, {"task_state": TaskState.POWERING_ON}])
async def test_a_record_that_somebody_changes_during_it_is_left_to_him(tmp_path: Path, change: dict[str, Any]) -> None:
    async with host(tmp_path, [instance(1)], [OFF]) as one:
        await one.is_paused()
        brought = await one.starts()
        await one.arranged.store.import_records(Records(instances=(replace(instance(1), **change),), migrations=()))
        await one.resumes()
        assert one.kinds(await wait_out_pause(brought, Vitals())) == {1: Kind.SUPERSEDED}
        assert one.arranged.power(1) is OFF


async def test_an_operator_replaces_and_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    first = await pause(path, 60)
    assert first.until - first.since == timedelta(minutes=1)
    second = await pause(path, 120)
    assert await resume(path) == second
    assert await resume(path) is None
    async with open_journal(path, boot_id=BOOT, keep_runs=5, keep_days=5, now=now) as journal:
        assert await journal.pause() is None
    assert await NO_JOURNAL.pause() is None


@pytest.mark.parametrize(("text", "for_s"), [("30min", 1800), ("1h 30min", 5400), ("90", 90), ("1 week", 604800)])
def test_how_long_it_lasts_is_a_time_span(text: str, for_s: float) -> None:
    assert time_span(text) == for_s


@pytest.mark.parametrize("text", ["", "soon", "0", "-5", "8 days", "1 year"])
def test_what_is_no_time_span_of_a_pause_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="give a time span such as 30min"):
        time_span(text)
