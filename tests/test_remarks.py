"""Rows and task states that are left of what nobody works on any more: they keep no guest down, and they are told."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from bringup.daemon.decisions.forecast import foresee
from bringup.daemon.decisions.from_guest import FROM_FIRST_LOOK
from bringup.daemon.decisions.from_record import FROM_RECORD
from bringup.daemon.decisions.instances import Migration
from bringup.daemon.decisions.migrating import AWAY_STATUSES
from bringup.daemon.decisions.outcomes import Kind, Outcome
from bringup.daemon.decisions.rules import Facts, decide
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.drivers.simulated import SimulatedGuest
from support.decisions import FACTS
from support.drivers import uuid_of
from support.hosts import ELSEWHERE, HOST, ArrangedHost, arranged, guest, instance, outcome_of
from support.records import migration

pytestmark = pytest.mark.anyio

OFF = PowerState.SHUTDOWN
BOOTED_AT = 1_000_000.0
KINDS = ("live-migration", "migration", "resize")
MOVING = {
    "live-migration": (TaskState.MIGRATING,),
    "migration": (TaskState.RESIZE_PREP, TaskState.RESIZE_MIGRATING),
    "resize": (TaskState.RESIZE_PREP, TaskState.RESIZE_MIGRATING),
}
# What no start finishes, whatever the guest does.
STUCK = (
    TaskState.IMAGE_BACKUP,
    TaskState.SHELVING,
    TaskState.SHELVING_IMAGE_PENDING_UPLOAD,
    TaskState.SHELVING_IMAGE_UPLOADING,
    TaskState.SHELVING_OFFLOADING,
    TaskState.UNSHELVING,
    TaskState.SUSPENDING,
    TaskState.RESUMING,
    TaskState.SOFT_DELETING,
    TaskState.RESTORING,
    TaskState.UPDATING_PASSWORD,
    TaskState.RESCUING,
    TaskState.UNRESCUING,
    TaskState.RESIZE_REVERTING,
    TaskState.RESIZE_CONFIRMING,
    TaskState.RESIZE_FINISH,
    TaskState.RESIZE_MIGRATED,
    TaskState.PAUSING,
)


def row(kind: str, status: str, **fields: Any) -> Migration:
    return migration(1, migration_type=kind, status=status, dest_compute="compute-7", **fields)


async def run(host: ArrangedHost) -> Outcome:
    return outcome_of(await host.run(), 1)


def warnings_of(outcome: Outcome) -> list[str]:
    return [one.error for one in outcome.warnings]


@pytest.mark.parametrize("status", AWAY_STATUSES)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_row_that_is_left_over_keeps_no_guest_down_and_is_named(kind: str, status: str) -> None:
    async with arranged(
        [instance(1)], guests=[guest(1, OFF)], migrations=[row(kind, status)], resume_guests=True
    ) as host:
        outcome = await run(host)

        assert (outcome.kind, outcome.because) == (Kind.INITIALIZED, ("vifs", "ran_before"))
        assert host.power(1) is PowerState.RUNNING
        assert warnings_of(outcome) == ["MigrationLeftOver"]
        assert f"{kind} {row(kind, status).uuid} to compute-7 is {status}" in outcome.warnings[0].message
        # Nova would not write it either.
        [kept] = await host.store.load_migrations(HOST, [status])
        assert kept.status == status


@pytest.mark.parametrize("status", sorted({*AWAY_STATUSES} - {"running"}))
async def test_a_live_migration_that_was_cut_short_before_it_ran_does_not_keep_its_guest_down(status: str) -> None:
    """Nova clears the task state, and starts it."""
    record = instance(1, task_state=TaskState.MIGRATING)
    rows = [row("live-migration", status)]
    async with arranged([record], guests=[guest(1, OFF)], migrations=rows, resume_guests=True) as host:
        outcome = await run(host)

        assert outcome.kind is Kind.INITIALIZED
        assert host.power(1) is PowerState.RUNNING
        assert warnings_of(outcome) == ["MigrationLeftOver"]


async def test_the_row_of_a_live_migration_that_the_run_ends_is_not_reported_as_left_over() -> None:
    record = instance(1, task_state=TaskState.MIGRATING)
    rows = [row("live-migration", "running")]
    async with arranged([record], guests=[guest(1, OFF)], migrations=rows, resume_guests=True) as host:
        outcome = await run(host)

        assert host.power(1) is PowerState.RUNNING
        assert "MigrationLeftOver" not in warnings_of(outcome)
        assert await host.store.load_migrations(HOST, ["error"]) == [replace(rows[0], status="error")]


class _GoesOn:
    """The store as the fence sees it: somebody writes the row right before the claim."""

    def __init__(self, host: ArrangedHost) -> None:
        self._host = host

    async def begin_start(self, *args: Any, **kwargs: Any) -> object:
        await self._host.store.save_migration(row("live-migration", "accepted").uuid, status="preparing")
        return await self._host.store.begin_start(*args, **kwargs)


def moving(kind: str, status: str, task_state: TaskState, updated_at: float | None) -> Facts:
    record = replace(FACTS.instance, task_state=task_state, power_state=PowerState.RUNNING)
    moves = (row(kind, status, updated_at=updated_at),)
    return replace(FACTS, instance=record, moves=moves, booted_at=BOOTED_AT, resume_guests=True)


REAL = [(kind, task) for kind in KINDS for task in MOVING[kind]]


@pytest.mark.parametrize("status", AWAY_STATUSES)
@pytest.mark.parametrize(("kind", "task_state"), REAL)
def test_a_move_that_was_written_since_the_host_has_booted_is_left_to_who_works_on_it(
    kind: str, task_state: TaskState, status: str
) -> None:
    plan = decide(FROM_RECORD, moving(kind, status, task_state, BOOTED_AT + 1))

    assert (plan.because, plan.steps, plan.kind) == (("moving",), (), Kind.SUPERSEDED)
    assert plan.problem is not None
    assert "compute-7" in plan.problem.message


@pytest.mark.parametrize("updated_at", [BOOTED_AT - 1, None], ids=["before the boot", "nobody knows when"])
@pytest.mark.parametrize(("kind", "task_state"), REAL)
def test_a_move_that_was_cut_short_by_the_boot_is_seen_to_as_nova_does(
    kind: str, task_state: TaskState, updated_at: float | None
) -> None:
    facts = moving(kind, "migrating", task_state, updated_at)
    assert "moving" not in decide(FROM_RECORD, facts).because
    assert decide(FROM_FIRST_LOOK, replace(facts, look=OFF)).because[0] == "vifs"


def test_a_row_of_another_sort_of_move_than_the_task_is_left_over_however_fresh() -> None:
    for kind, task_state in itertools.product(KINDS, (None, *TaskState)):
        if task_state not in (*MOVING[kind], TaskState.RESIZE_MIGRATED, TaskState.RESIZE_FINISH):
            facts = replace(moving(kind, "running", TaskState.MIGRATING, BOOTED_AT + 1))
            facts = replace(facts, instance=replace(facts.instance, task_state=task_state))
            assert "moving" not in decide(FROM_RECORD, facts).because


async def test_a_row_that_was_written_again_since_it_was_found_left_over_forbids_the_start() -> None:
    async with arranged(
        [instance(1)], guests=[guest(1, OFF)], migrations=[row("live-migration", "accepted")], resume_guests=True
    ) as host:
        object.__setattr__(host.host.executor.start_claim, "store", _GoesOn(host))
        outcome = await run(host)

        assert outcome.kind is Kind.SUPERSEDED
        assert host.power(1) is OFF


@pytest.mark.parametrize("task_state", [TaskState.MIGRATING, None])
@pytest.mark.parametrize("status", AWAY_STATUSES)
async def test_a_guest_that_most_likely_runs_where_it_was_live_migrated_to_is_not_started_here(
    status: str, task_state: TaskState | None
) -> None:
    """The last step was lost: a hard reboot would start it here on the same disks (Nova bug 1414065)."""
    record = instance(1, task_state=task_state)
    rows = [row("live-migration", status)]
    async with arranged([record], guests=[], migrations=rows, resume_guests=True) as host:
        outcome = await run(host)

        assert (outcome.kind, outcome.because) == (Kind.DEFERRED, ("live_migrated_away",))
        assert outcome.problem is not None
        assert "compute-7" in outcome.problem.message
        assert "Do not hard reboot" in outcome.problem.message
        assert host.trace.touched() == []
        assert await host.record(1) == record
        assert await host.store.load_migrations(HOST, [status]) == rows


@pytest.mark.parametrize("task_state", STUCK)
async def test_a_task_state_that_no_start_finishes_is_reported_with_the_command_that_clears_it(
    task_state: TaskState,
) -> None:
    record = instance(1, task_state=task_state)
    async with arranged([record], guests=[guest(1, OFF)], resume_guests=True) as host:
        outcome = await run(host)

        assert outcome.kind is Kind.INITIALIZED
        assert host.power(1) is PowerState.RUNNING
        assert warnings_of(outcome) == ["TaskStateLeftOver"]
        [warning] = outcome.warnings
        assert warning.message.startswith(f"task_state {task_state.value} is left")
        assert warning.message.endswith(f"openstack server set --state active {uuid_of(1)}")


@pytest.mark.parametrize(
    ("vm_state", "task_state", "state"),
    [
        (VmState.SOFT_DELETED, TaskState.RESTORING, "active"),
        (VmState.ERROR, TaskState.SHELVING, "error"),
        (VmState.STOPPED, TaskState.UNRESCUING, "active"),
    ],
)
async def test_one_with_which_nothing_is_done_is_reported_too(
    vm_state: VmState, task_state: TaskState, state: str
) -> None:
    record = instance(1, vm_state=vm_state, task_state=task_state, power_state=OFF)
    async with arranged([record], guests=[guest(1, OFF)]) as host:
        [warning] = (await run(host)).warnings
        assert warning.message.endswith(f"--state {state} {uuid_of(1)}")


@pytest.mark.parametrize("task_state", [None, *TaskState])
async def test_a_plan_tells_what_a_run_then_tells(task_state: TaskState | None) -> None:
    record = instance(1, task_state=task_state)
    rows = [row("resize", "queued"), row("live-migration", "running", uuid=uuid_of(77))]
    guests: list[SimulatedGuest] = [guest(1, OFF)]
    async with arranged([record], guests=guests, migrations=rows, resume_guests=True) as host:
        outcome = await run(host)
    ended = foresee(
        Facts(
            instance=record,
            host=HOST,
            resume_guests=True,
            moves=tuple(rows),
            live_migration=rows[1],
        ),
        OFF,
        PowerState.RUNNING if task_state is TaskState.RESIZE_MIGRATING else OFF,
    )
    assert ended.certain is not None
    said = [one.error for one in (*outcome.warnings, outcome.problem) if one is not None and one.action == "decide"]
    assert [one.error for one in ended.certain.told] == said


@pytest.mark.parametrize("task_state", [TaskState.RESIZE_MIGRATED, TaskState.RESIZE_FINISH])
async def test_a_resize_that_was_cut_short_before_its_guest_was_made_reports_where_the_disks_are(
    task_state: TaskState,
) -> None:
    record = instance(1, task_state=task_state)
    rows = [migration(1, migration_type="resize", status="post-migrating", source_compute=ELSEWHERE, dest_compute=HOST)]
    async with arranged([record], guests=[], migrations=rows, resume_guests=True) as host:
        outcome = await run(host)

        assert (outcome.kind, outcome.because) == (Kind.DEFERRED, ("resize_has_not_arrived",))
        assert outcome.problem is not None
        assert f"{uuid_of(1)}_resize" in outcome.problem.message
        assert host.trace.touched() == []
        assert await host.record(1) == record


@pytest.mark.parametrize(
    "metadata",
    [{"bringup:resume": "always"}, {"bringup:resume": "true"}, {"bringup:max_downtime": "soon"}],
)
async def test_metadata_that_proves_nothing_is_reported_with_what_would_be_right(metadata: dict[str, str]) -> None:
    async with arranged([instance(1, metadata=metadata)], guests=[guest(1, OFF)], resume_guests=True) as host:
        outcome = await run(host)

        assert outcome.because == ("vifs", "resume_not_wanted")
        [warning] = outcome.warnings
        [(key, value)] = metadata.items()
        assert f'{key} is "{value}": give' in warning.message
        assert host.power(1) is OFF
