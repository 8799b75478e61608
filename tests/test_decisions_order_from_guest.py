from dataclasses import replace

import pytest

from bringup.daemon.decisions.actions import (
    AbortLiveMigration,
    EnsureFilteringRules,
    PlugVifs,
    Reboot,
    ResumeStateOnHostBoot,
    RevertMigration,
    Save,
    SaveMigration,
    Start,
    Stop,
    Unpause,
)
from bringup.daemon.decisions.from_guest import FROM_FIRST_LOOK, FROM_SECOND_LOOK
from bringup.daemon.decisions.rules import Facts, Plan, decide
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.drivers.base import RebootType
from support.decisions import FACTS, INSTANCE, MIGRATION_UUID, actions, facts, migration, plan

TO_ERROR = Save({"vm_state": VmState.ERROR, "task_state": None})
CLEAR_TASK = Save({"task_state": None})


ABORT = (AbortLiveMigration(), SaveMigration(MIGRATION_UUID, "error"))
NOT_MIGRATING = Save({"task_state": None}, expected_task_states=(TaskState.MIGRATING,))
RUNNING = Save({"vm_state": VmState.ACTIVE, "task_state": None})
TO_HARD = Save({"task_state": TaskState.REBOOT_PENDING_HARD})
VIFS = ("vifs", [PlugVifs()])


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        pytest.param(
            facts(VmState.ACTIVE, TaskState.REBOOT_PENDING, PowerState.RUNNING),
            plan(("soft_reboot_interrupted", [Reboot(RebootType.SOFT)])),
            id="a soft reboot of a guest that runs",
        ),
        pytest.param(
            facts(VmState.ACTIVE, TaskState.REBOOT_PENDING, PowerState.SHUTDOWN),
            plan(("soft_reboot_went_down", [TO_HARD, Reboot(RebootType.HARD)])),
            id="a soft reboot of a guest that went down",
        ),
        pytest.param(
            facts(VmState.STOPPED, TaskState.REBOOT_PENDING_HARD, PowerState.RUNNING),
            plan(("hard_reboot_interrupted", [Reboot(RebootType.HARD)])),
            id="a hard reboot that was pending",
        ),
        pytest.param(
            facts(VmState.RESCUED, TaskState.REBOOT_STARTED_HARD, PowerState.RUNNING),
            plan(("transition_finished", [RUNNING]), VIFS, ends=False),
            id="a hard reboot that is over",
        ),
        pytest.param(
            facts(VmState.PAUSED, TaskState.UNPAUSING, PowerState.RUNNING),
            plan(("transition_finished", [RUNNING]), VIFS, ends=False),
            id="an unpause that is over",
        ),
        pytest.param(
            facts(VmState.PAUSED, TaskState.UNPAUSING, PowerState.PAUSED),
            plan(("unpause_interrupted", [Unpause()])),
            id="an unpause that was not begun",
        ),
        pytest.param(
            facts(VmState.ACTIVE, TaskState.POWERING_OFF, PowerState.SHUTDOWN),
            plan(("power_off_interrupted", [Stop()])),
            id="a stop is told to the guest before its vifs",
        ),
        pytest.param(
            facts(VmState.STOPPED, TaskState.POWERING_ON, PowerState.RUNNING),
            plan(("power_on_interrupted", [Start()])),
            id="a start",
        ),
        pytest.param(
            facts(VmState.ACTIVE, TaskState.RESIZE_MIGRATING, PowerState.SHUTDOWN),
            plan(VIFS, ("resize_interrupted", [RevertMigration(power_on=True), CLEAR_TASK]), ends=False),
            id="a resize is rolled back after the vifs",
        ),
        pytest.param(
            facts(VmState.ACTIVE, TaskState.MIGRATING, PowerState.RUNNING),
            plan(VIFS, ("live_migration_interrupted", [NOT_MIGRATING]), ends=False),
            id="a live migration that does not run",
        ),
        pytest.param(
            replace(
                facts(VmState.ACTIVE, TaskState.MIGRATING, PowerState.RUNNING),
                live_migration=migration("live-migration", "running"),
            ),
            plan(VIFS, ("live_migration_interrupted", [*ABORT, NOT_MIGRATING]), ends=False),
            id="a live migration that runs is stopped first",
        ),
        pytest.param(facts(look=PowerState.RUNNING), plan(VIFS, ends=False), id="nothing was cut short"),
    ],
)
def test_the_order_of_what_the_first_look_adds(case: Facts, expected: Plan) -> None:
    assert decide(FROM_FIRST_LOOK, case) == expected


def test_a_guest_that_was_stopped_before_its_resize_is_not_powered_on() -> None:
    case = facts(VmState.RESIZED, TaskState.RESIZE_MIGRATING, PowerState.SHUTDOWN)
    stopped = replace(case, instance=replace(case.instance, system_metadata={"old_vm_state": "stopped"}))
    assert RevertMigration(power_on=False) in actions(FROM_FIRST_LOOK, stopped)


RAN = replace(FACTS, instance=replace(INSTANCE, power_state=PowerState.RUNNING), resume_guests=True)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        pytest.param(
            replace(RAN, look=PowerState.SHUTDOWN), plan(("ran_before", [ResumeStateOnHostBoot()])), id="it ran"
        ),
        pytest.param(
            replace(RAN, look=PowerState.SHUTDOWN, resume_guests=False), plan(("stays_off", ())), id="none is resumed"
        ),
        pytest.param(replace(RAN, look=PowerState.RUNNING), plan(("runs", [EnsureFilteringRules()])), id="it runs"),
        pytest.param(replace(FACTS, look=PowerState.SHUTDOWN, resume_guests=True), plan(("stays_off", ())), id="off"),
    ],
)
def test_the_order_of_what_the_second_look_adds(case: Facts, expected: Plan) -> None:
    assert decide(FROM_SECOND_LOOK, case) == expected
