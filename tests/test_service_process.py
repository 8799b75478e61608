"""The life of the process, in this process: what it opens, says and gives back.  The real one is in acceptance/."""

import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.states import TaskState, UnknownState, VmState
from bringup.daemon.errors import SettingsError, Temporary, Unavailable
from bringup.daemon.service import assembly
from bringup.daemon.service.process import Ending, serve
from bringup.daemon.settings import Settings, load
from bringup.daemon.status.progress import Progress
from bringup.daemon.storage import state_directory
from bringup.daemon.storage.outbox.outbox import Delivery
from bringup.drivers.simulated import Fault
from support.computer import Computer, a_computer
from support.ports import free_port
from support.records import instance, uuid_of
from support.scheduler import receiver

pytestmark = pytest.mark.anyio
INSTANCES = (instance(1), instance(2, vm_state=UnknownState("hibernating")))


class Shown:
    """A presenter that keeps what it is to show."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.showing_is_over = False
        self.endings: list[tuple[Delivery | None, bool, int]] = []
        self.ended = anyio.Event()

    @asynccontextmanager
    async def showing(self, progress: Progress) -> AsyncIterator[None]:
        self.progress = progress
        try:
            yield
        finally:
            self.showing_is_over = True

    def show_ending(self, ending: Ending, *, stays: bool) -> None:
        assert self.showing_is_over
        outcomes = 0 if ending.result is None else len(ending.result.outcomes)
        self.endings.append((ending.delivery, stays, outcomes))
        self.ended.set()


def a_host(directory: Path, *faults: Fault, scheduler: str | None = None) -> Computer:
    return a_computer(directory, scheduler=scheduler).guests(INSTANCES, *faults)


async def with_records(computer: Computer, *instances: Any) -> Settings:
    await anyio.to_thread.run_sync(computer.records, instances or INSTANCES)
    return load(Path(computer.arguments[1]), environment={}, overrides=())


async def test_once_it_shows_the_run_and_ends(tmp_path: Path) -> None:
    with receiver(tmp_path / "scheduler") as scheduler:
        settings = await with_records(a_host(tmp_path, scheduler=scheduler.url))
        shown = Shown()

        with anyio.fail_after(60):
            code = await serve(settings, shown, once=True)

        assert len(scheduler.reports) == 1
    assert code == 0
    assert shown.endings == [(Delivery.ACKNOWLEDGED, False, 2)]
    assert shown.progress is not None
    assert shown.progress.kinds == {Kind.INITIALIZED: 1, Kind.FAILED: 1}
    assert shown.progress.phase == "done"


async def test_the_canonical_line_of_a_run_counts_every_kind(tmp_path: Path) -> None:
    settings = await with_records(a_host(tmp_path))

    with capture_logs() as logs, anyio.fail_after(60):
        await serve(settings, Shown(), once=True)

    names = [line["event"] for line in logs]
    [ended] = [line for line in logs if line["event"] == "run.ended"]
    assert names[0] == "service.started"
    assert names[-1] == "service.stopped"
    assert {kind.value for kind in Kind} <= ended.keys()
    assert (ended["initialized"], ended["failed"], ended["unfinished"], ended["error"]) == (1, 1, 0, None)
    assert ended["boot_id"] == assembly.boot_id(settings)


async def test_what_ends_the_start_is_raised_as_it_is_and_nothing_is_shown(tmp_path: Path) -> None:
    computer = a_host(tmp_path).having(placement={"url": "http://127.0.0.1:1", "wait": 0})
    settings = await with_records(computer)
    shown = Shown()

    with pytest.raises(Unavailable, match="cannot start without Placement"), anyio.fail_after(60):
        await serve(settings, shown, once=False)

    assert shown.endings == []
    with state_directory.hold_lock(computer.state):
        pass


async def test_a_hypervisor_that_does_not_begin_is_unavailable(tmp_path: Path) -> None:
    settings = await with_records(a_host(tmp_path, Fault(verb="init_host", error="DriverError", message="no kvm")))

    with pytest.raises(Unavailable, match="cannot initialize the hypervisor"), anyio.fail_after(60):
        await serve(settings, Shown(), once=False)


async def test_firewall_rules_that_cannot_be_applied_are_reported_before_they_end_it(tmp_path: Path) -> None:
    broken = Fault(verb="filter_defer_apply_off", error="DriverError", message="iptables-restore failed")
    with receiver(tmp_path / "scheduler") as scheduler:
        computer = a_host(tmp_path, broken, scheduler=scheduler.url).having(driver={"defer_iptables_apply": True})
        settings = await with_records(computer)
        shown = Shown()

        with pytest.raises(Unavailable, match="iptables-restore failed"), anyio.fail_after(60):
            await serve(settings, shown, once=False)

        [report] = scheduler.reports
    assert not report["complete"]
    assert "iptables-restore failed" in (report["error"] or "")
    assert len(shown.endings) == 1


async def test_it_stays_until_it_is_stopped_and_reports_it(tmp_path: Path) -> None:
    settings = await with_records(a_host(tmp_path))
    shown = Shown()
    codes: list[int] = []

    async def run() -> None:
        codes.append(await serve(settings, shown, once=False))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await shown.ended.wait()
            assert shown.endings == [(None, True, 2)]
            with pytest.raises(Temporary, match="another bringup"):
                await serve(settings, Shown(), once=True)
            group.cancel_scope.cancel()

    assert codes == []


@pytest.mark.parametrize("status", [503, 422], ids=["kept", "rejected"])
async def test_once_a_report_that_is_kept_is_a_reason_to_come_back(tmp_path: Path, status: int) -> None:
    with receiver(tmp_path / "scheduler", status=status) as scheduler:
        settings = await with_records(a_host(tmp_path, scheduler=scheduler.url))
        shown = Shown()

        with anyio.fail_after(60):
            code = await serve(settings, shown, once=True)

    expected = {503: (75, Delivery.KEPT), 422: (0, Delivery.REJECTED)}
    assert (code, shown.endings[0][0]) == expected[status]


async def test_a_report_is_in_memory_only_where_the_outbox_cannot_be_written(tmp_path: Path) -> None:
    computer = a_host(tmp_path, scheduler=f"http://127.0.0.1:{free_port()}")
    settings = await with_records(computer)
    (computer.state / "outbox").write_text("in the way")
    shown = Shown()

    with anyio.fail_after(60):
        assert await serve(settings, shown, once=True) == 75

    assert shown.endings == [(Delivery.IN_MEMORY, False, 2)]


async def test_what_is_questionable_is_reported_when_it_starts(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("admin")
    token.chmod(0o644)
    computer = a_host(tmp_path).having(placement={"token_file": str(token)})
    settings = await with_records(computer)
    computer.state.chmod(0o755)

    with capture_logs() as logs, anyio.fail_after(60):
        await serve(settings, Shown(), once=True)

    warnings = {line["event"]: line for line in logs if line["log_level"] == "warning"}
    assert "placement.token_file" in warnings["settings.warning"]["warning"]
    assert warnings["state_directory.not_private"]["path"] == str(computer.state)


async def test_the_state_directory_is_made_private_and_remembers_its_host(tmp_path: Path) -> None:
    computer = a_host(tmp_path)
    settings = await with_records(computer)

    with anyio.fail_after(60):
        await serve(settings, Shown(), once=True)

    assert stat.S_IMODE(computer.state.stat().st_mode) == 0o700
    assert stat.S_IMODE(computer.store.stat().st_mode) == 0o600
    renamed = load(Path(computer.arguments[1]), environment={}, overrides=("host.name=compute-7",))
    with pytest.raises(SettingsError, match=r"host\.name"):
        await serve(renamed, Shown(), once=True)


async def test_records_are_changed_as_the_tables_say(tmp_path: Path) -> None:
    computer = a_host(tmp_path)
    building = instance(1, vm_state=VmState.BUILDING, task_state=TaskState.SPAWNING)
    settings = await with_records(computer, building)

    with anyio.fail_after(60):
        await serve(settings, Shown(), once=True)

    stored = await anyio.to_thread.run_sync(computer.stored)
    assert (stored[uuid_of(1)].vm_state, stored[uuid_of(1)].task_state) == (VmState.ERROR, None)
