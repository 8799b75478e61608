"""A host whose guests wait for what they need, brought back again and again by one journal."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import Kind, Outcome
from bringup.daemon.decisions.policies import ResumePolicy
from bringup.daemon.decisions.resume_policy import Resuming
from bringup.daemon.decisions.states import PowerState
from bringup.daemon.liveness import Vitals
from bringup.daemon.recovery.context import NeedsPolicy, Startup
from bringup.daemon.recovery.init_host import Brought, init_host
from bringup.daemon.service.journal_requests import retry
from bringup.daemon.service.standby import stand_by
from bringup.daemon.storage.journal import Journal
from bringup.daemon.storage.journal.sqlite import open_journal
from bringup.daemon.storage.store.base import Records
from bringup.drivers.simulated import Fault, SimulatedNeed, Verb
from support.drivers import uuid_of
from support.hosts import ArrangedHost, arranged, guest, instance, now

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


def only(brought: Brought) -> Outcome:
    (outcome,) = brought.result.outcomes
    return outcome


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


async def is_watched(host: Host, *needs: SimulatedNeed) -> None:
    """Wait until these needs are watched, and no others."""
    with anyio.fail_after(60):
        while {need.name for watched, _ in host.driver.watching for need in watched} != {one.name for one in needs}:
            await anyio.wait_all_tasks_blocked()
