import pytest

from bringup.daemon.decisions.actions import (
    CleanupInterruptedSnapshot,
    CompletePartialDeletion,
    Delete,
    DestroyEvacuated,
    Fence,
    Save,
    SaveMigration,
)
from bringup.daemon.decisions.from_evacuation import EVACUATED
from bringup.daemon.decisions.from_record import FROM_RECORD
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.rules import Facts, Plan, decide
from bringup.daemon.decisions.states import TaskState, VmState
from support.decisions import ELSEWHERE, HERE, MIGRATION_UUID, facts, plan

TO_ERROR = Save({"vm_state": VmState.ERROR, "task_state": None})
CLEAR_TASK = Save({"task_state": None})


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        pytest.param(
            facts(VmState.DELETED, TaskState.DELETING, host=ELSEWHERE),
            plan(("not_ours", ()), kind=Kind.SKIPPED),
            id="the host comes before all else",
        ),
        pytest.param(
            facts(VmState.ACTIVE, TaskState.DELETING, evacuation="accepted"),
            plan(("evacuated", ()), kind=Kind.SKIPPED),
            id="an evacuation comes before a deletion",
        ),
        pytest.param(
            facts(VmState.ACTIVE, evacuation="done"),
            plan(ends=False),
            id="an instance that came back after its evacuation is brought back",
        ),
        pytest.param(
            facts(VmState.ERROR, TaskState.SPAWNING),
            plan(("in_error", ()), kind=Kind.SKIPPED),
            id="ERROR comes before an interrupted build",
        ),
        pytest.param(
            facts(VmState.ERROR, TaskState.DELETING),
            plan(("deletion_interrupted", [Delete()])),
            id="a deletion goes on in ERROR",
        ),
        pytest.param(
            facts(VmState.ERROR, TaskState.RESIZE_MIGRATING), plan(ends=False), id="a resize is rolled back in ERROR"
        ),
        pytest.param(
            facts(VmState.DELETED, TaskState.DELETING),
            plan(("half_deleted", [CompletePartialDeletion()])),
            id="a half deleted row comes before a deletion",
        ),
        pytest.param(
            facts(VmState.BUILDING, TaskState.DELETING),
            plan(("build_interrupted", [TO_ERROR])),
            id="an interrupted build comes before a deletion",
        ),
        pytest.param(
            facts(VmState.STOPPED, TaskState.REBUILD_SPAWNING),
            plan(("rebuild_interrupted", [TO_ERROR])),
            id="a rebuild of a stopped instance",
        ),
        pytest.param(
            facts(VmState.RESCUED, TaskState.REBUILD_SPAWNING), plan(ends=False), id="a rebuild of a rescued instance"
        ),
        pytest.param(
            facts(VmState.ACTIVE, TaskState.IMAGE_UPLOADING),
            plan(("snapshot_interrupted", [CleanupInterruptedSnapshot(), CLEAR_TASK]), ends=False),
            id="a snapshot is cleaned up and the guest brought back",
        ),
    ],
)
def test_the_order_of_what_the_record_says(case: Facts, expected: Plan) -> None:
    assert decide(FROM_RECORD, case) == expected


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        pytest.param(
            facts(host=HERE, evacuation="done"), plan(("evacuated_and_back", ())), id="it came back: left alone"
        ),
        pytest.param(
            facts(host=HERE, evacuation="accepted"),
            plan(("evacuation_running", [Fence()]), kind=Kind.SKIPPED),
            id="under way: fenced, kept",
        ),
        pytest.param(
            facts(host=ELSEWHERE, evacuation="done"),
            plan(("evacuated", [DestroyEvacuated(), SaveMigration(MIGRATION_UUID, "completed")])),
            id="done: destroyed, then its migration completed",
        ),
    ],
)
def test_the_order_of_what_an_evacuation_says(case: Facts, expected: Plan) -> None:
    assert decide(EVACUATED, case) == expected
