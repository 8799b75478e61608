"""What a guest needs is looked at before it is started: where it is missing, nothing starts and no record changes."""

import itertools
from dataclasses import replace
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bringup.daemon.decisions.actions import (
    Action,
    Delete,
    DestroyEvacuated,
    DestroyGuest,
    PlugVifs,
    Reboot,
    ResumeStateOnHostBoot,
    RevertMigration,
    SetError,
    Start,
    Unpause,
)
from bringup.daemon.decisions.forecast import foresee, undisturbed
from bringup.daemon.decisions.from_needs import MEANINGS, Follows, can_start, is_tried_again, meaning_of, unmet
from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.on_failure import Reaction, reaction_to
from bringup.daemon.decisions.outcomes import Kind, Outcome
from bringup.daemon.decisions.rules import Facts
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.drivers.base import RebootType
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedNotMet, NeedState
from bringup.drivers.simulated import ErrorName, Fault, SimulatedDriver, SimulatedNeed, Verb
from support.drivers import uuid_of
from support.hosts import HOST, arranged, guest, instance, limits, outcome_of

START_VERBS: tuple[Verb, ...] = ("power_on", "resume_state_on_host_boot", "reboot", "finish_revert_migration")
UNMET = tuple(state for state in NeedState if state is not NeedState.MET)
ALL_NEEDS = [
    Need(kind=kind, name="it", state=state, met_by=met_by)
    for kind, state, met_by in itertools.product(NeedKind, NeedState, MetBy)
]
# A record from which each starting verb comes, and how its guest is found.
STARTS: dict[str, tuple[dict[str, Any], PowerState]] = {
    "resume_state_on_host_boot": ({}, PowerState.SHUTDOWN),
    "power_on": ({"vm_state": VmState.STOPPED, "task_state": TaskState.POWERING_ON}, PowerState.SHUTDOWN),
    "hard reboot": ({"task_state": TaskState.REBOOT_STARTED_HARD}, PowerState.SHUTDOWN),
    "soft reboot": ({"task_state": TaskState.REBOOT_PENDING}, PowerState.RUNNING),
    "soft reboot of one that went down": ({"task_state": TaskState.REBOOT_STARTED}, PowerState.SHUTDOWN),
    "revert": ({"task_state": TaskState.RESIZE_MIGRATING}, PowerState.SHUTDOWN),
    "revert to off": (
        {"task_state": TaskState.RESIZE_MIGRATING, "system_metadata": {"old_vm_state": "stopped"}},
        PowerState.SHUTDOWN,
    ),
    "resume after a snapshot": ({"task_state": TaskState.IMAGE_UPLOADING}, PowerState.SHUTDOWN),
    "resume after a resize that was prepared": ({"task_state": TaskState.RESIZE_PREP}, PowerState.SHUTDOWN),
    "resume after a live migration": ({"task_state": TaskState.MIGRATING}, PowerState.SHUTDOWN),
}


def needing(need: Need, **more: Any) -> SimulatedNeed:
    return SimulatedNeed(kind=need.kind, name=need.name, state=need.state, met_by=need.met_by, why=need.why, **more)


def starts_of(driver: SimulatedDriver) -> dict[str, int]:
    return {verb: driver.count(verb) for verb in START_VERBS if driver.count(verb)}


async def settled(
    record: Instance,
    power: PowerState,
    *needs: SimulatedNeed,
    faults: tuple[Fault, ...] = (),
    deadline_s: float = 30,
) -> tuple[Outcome, Instance | None, SimulatedDriver]:
    async with arranged(
        [record],
        guests=[guest(1, power, needs=needs)],
        resume_guests=True,
        limits=limits(instance_deadline=deadline_s),
    ) as host:
        for fault in faults:
            host.driver.inject(fault)
        result = await host.run()
        return outcome_of(result, 1), await host.record(1), host.driver


def expected_starts(record: Instance, power: PowerState) -> bool:
    course = undisturbed(foresee(Facts(instance=record, host=HOST, resume_guests=True), power), power)
    return any(can_start(step.action, power) for step in course.steps)


def test_every_need_has_a_meaning_and_only_one_that_is_met_lets_a_guest_start() -> None:
    for need in ALL_NEEDS:
        met = need.state is NeedState.MET
        assert (meaning_of(need).follows is Follows.START) is met
        assert unmet([need]) == (() if met else (need,))
    assert {meaning_of(need).name for need in ALL_NEEDS} == {row.name for row in MEANINGS}
    assert all(row.why.endswith(".") for row in MEANINGS)


def test_only_what_may_come_by_itself_altogether_is_tried_again() -> None:
    def need(met_by: MetBy, state: NeedState = NeedState.ABSENT) -> Need:
        return Need(kind=NeedKind.DISK, name="a", state=state, met_by=met_by)

    assert is_tried_again([need(MetBy.HOST)])
    assert is_tried_again([need(MetBy.HOST), need(MetBy.PERSON, NeedState.MET)])
    assert not is_tried_again([need(MetBy.HOST), need(MetBy.NOVA)])
    assert not is_tried_again([need(MetBy.PERSON)])
    assert not is_tried_again([])


def test_what_is_not_met_defers_whichever_action_found_it_out() -> None:
    actions: list[Action] = [Reboot(RebootType.HARD), Start(), RevertMigration(power_on=True), ResumeStateOnHostBoot()]
    for action in (*actions, PlugVifs(), Delete(), DestroyGuest(), DestroyEvacuated(), Unpause(), SetError()):
        assert reaction_to(action, NeedNotMet("no", ())) is Reaction.DEFER


def test_a_paused_guest_that_continues_starts_nothing_and_one_that_is_off_does() -> None:
    assert not can_start(Unpause(), PowerState.PAUSED)
    assert can_start(Unpause(), PowerState.SHUTDOWN)
    assert can_start(Unpause(), None)


@pytest.mark.anyio
@pytest.mark.parametrize("case", STARTS)
async def test_a_start_whose_needs_are_met_is_made(case: str) -> None:
    columns, power = STARTS[case]
    met = Need(kind=NeedKind.DISK, name="/dev/sdb", state=NeedState.MET)
    outcome, _, driver = await settled(instance(1, **columns), power, needing(met))
    assert outcome.kind is Kind.INITIALIZED
    assert starts_of(driver) != {}
    # Before anything is begun, and right before each start.
    assert driver.count("needs") == 1 + sum(starts_of(driver).values())


@pytest.mark.anyio
@pytest.mark.parametrize("kind", NeedKind)
@pytest.mark.parametrize("state", UNMET)
@pytest.mark.parametrize("case", STARTS)
async def test_a_start_whose_needs_are_not_met_is_not_made_and_the_record_stays(
    case: str, kind: NeedKind, state: NeedState
) -> None:
    columns, power = STARTS[case]
    before = instance(1, **columns)
    need = Need(kind=kind, name="/dev/sdb", state=state, why="no such device")
    outcome, after, driver = await settled(before, power, needing(need))
    assert (outcome.kind, outcome.needs) == (Kind.DEFERRED, (need,))
    assert after == before
    assert starts_of(driver) == {}
    assert driver.count("plug_vifs") == driver.count("post_interrupted_snapshot_cleanup") == 0
    assert outcome.problem is not None
    said = "starts are paused" if kind is NeedKind.PAUSE else "/dev/sdb is"
    assert said in outcome.problem.message
    assert "no such device" in outcome.problem.message


@pytest.mark.anyio
@pytest.mark.parametrize("case", STARTS)
async def test_only_a_start_that_rolls_the_resize_back_has_what_the_resize_moved_aside(case: str) -> None:
    columns, power = STARTS[case]
    before = instance(1, **columns)
    aside = Need(kind=NeedKind.DISK, name="/instances/1/disk", state=NeedState.ABSENT, met_by=MetBy.REVERT, why="aside")
    outcome, after, driver = await settled(before, power, needing(aside))
    if case.startswith("revert"):
        assert outcome.kind is Kind.INITIALIZED
        assert driver.count("finish_revert_migration") == 1
        return
    assert (outcome.kind, outcome.needs, after) == (Kind.DEFERRED, (aside,), before)
    assert starts_of(driver) == {}


@pytest.mark.anyio
@pytest.mark.parametrize("other", [by for by in MetBy if by is not MetBy.REVERT])
async def test_a_roll_back_waits_for_what_it_does_not_bring_itself(other: MetBy) -> None:
    columns, power = STARTS["revert"]
    lacking = [
        Need(kind=NeedKind.DISK, name="a", state=NeedState.ABSENT, met_by=MetBy.REVERT, why="aside"),
        Need(kind=NeedKind.HOST_DEVICE, name="b", state=NeedState.ABSENT, met_by=other, why="gone"),
    ]
    outcome, after, driver = await settled(instance(1, **columns), power, *(needing(need) for need in lacking))
    assert (outcome.kind, [need.name for need in outcome.needs]) == (Kind.DEFERRED, ["b"])
    assert after == instance(1, **columns)
    assert starts_of(driver) == {}


records = st.builds(
    lambda vm, task, power, old: instance(
        1, vm_state=vm, task_state=task, power_state=power, system_metadata={} if old is None else {"old_vm_state": old}
    ),
    st.sampled_from(VmState),
    st.sampled_from((None, *TaskState)),
    st.sampled_from(PowerState),
    st.sampled_from((None, "active", "stopped")),
)
unmet_needs = st.builds(
    Need,
    kind=st.sampled_from(NeedKind),
    name=st.text("abc/", min_size=1, max_size=5),
    state=st.sampled_from(UNMET),
    # What a roll-back brings does not stand in the way of one: it has a test of its own.
    met_by=st.sampled_from([met_by for met_by in MetBy if met_by is not MetBy.REVERT]),
)


@pytest.mark.no_cover
@settings(max_examples=250, deadline=None)
@given(record=records, power=st.sampled_from(PowerState), needs=st.lists(unmet_needs, min_size=1, max_size=3))
def test_whatever_the_record_and_the_guest_nothing_is_started_that_lacks_something(
    record: Instance, power: PowerState, needs: list[Need]
) -> None:
    async def run() -> None:
        outcome, after, driver = await settled(record, power, *(needing(need) for need in needs))
        assert starts_of(driver) == {}
        assert outcome.kind is Kind.DEFERRED or not expected_starts(record, power)
        if outcome.kind is Kind.DEFERRED:
            assert after == record
            assert outcome.needs == tuple(needs)

    anyio.run(run)


UNKNOWN: list[ErrorName] = ["DriverError", "OSError", "RuntimeError", "TimeoutError", "NotImplementedError"]


@pytest.mark.anyio
@pytest.mark.parametrize("error", UNKNOWN)
async def test_a_driver_that_cannot_tell_starts_nothing(error: ErrorName) -> None:
    fault = Fault(verb="needs", error=error, message="libvirt is away")
    outcome, after, driver = await settled(instance(1), PowerState.SHUTDOWN, faults=(fault,))
    assert (outcome.kind, after) == (Kind.DEFERRED, instance(1))
    assert starts_of(driver) == {}
    # What may pass is tried again; a driver that has no such verb will not have it in a minute either.
    assert is_tried_again(outcome.needs) is (error != "NotImplementedError")


@pytest.mark.anyio
async def test_a_driver_that_does_not_answer_starts_nothing() -> None:
    hang = Fault(verb="needs", hang=True)
    outcome, after, driver = await settled(instance(1), PowerState.SHUTDOWN, faults=(hang,), deadline_s=0.2)
    assert (outcome.kind, after) == (Kind.DEFERRED, instance(1))
    assert (starts_of(driver), is_tried_again(outcome.needs)) == ({}, True)


@pytest.mark.anyio
@pytest.mark.parametrize("error", ["DriverError", "RuntimeError"])
@pytest.mark.parametrize("case", [case for case in STARTS if case != "soft reboot"])
async def test_what_goes_away_between_the_look_and_the_start_puts_the_record_back(case: str, error: ErrorName) -> None:
    columns, power = STARTS[case]
    before = instance(1, **columns)
    gone = Fault(verb="needs", error=error, message="gone", after=1)
    outcome, after, driver = await settled(before, power, faults=(gone,))
    assert (outcome.kind, after) == (Kind.DEFERRED, before)
    assert starts_of(driver) == {}


VERBS_THAT_MAY_RAISE: dict[str, tuple[Verb, dict[str, Any], PowerState]] = {
    "plug_vifs of one that is off": ("plug_vifs", {}, PowerState.SHUTDOWN),
    "plug_vifs of one that runs": ("plug_vifs", {}, PowerState.RUNNING),
    "plug_vifs after a snapshot": ("plug_vifs", {"task_state": TaskState.IMAGE_UPLOADING}, PowerState.RUNNING),
    "plug_vifs after a pause": ("plug_vifs", {"task_state": TaskState.PAUSING}, PowerState.RUNNING),
    "resume": ("resume_state_on_host_boot", {}, PowerState.SHUTDOWN),
    "power_on": ("power_on", {"vm_state": VmState.STOPPED, "task_state": TaskState.POWERING_ON}, PowerState.SHUTDOWN),
    "hard reboot": ("reboot", {"task_state": TaskState.REBOOT_STARTED_HARD}, PowerState.SHUTDOWN),
    "soft reboot": ("reboot", {"task_state": TaskState.REBOOT_PENDING}, PowerState.RUNNING),
    "soft reboot of one that went down": ("reboot", {"task_state": TaskState.REBOOT_STARTED}, PowerState.SHUTDOWN),
    "revert": ("finish_revert_migration", {"task_state": TaskState.RESIZE_MIGRATING}, PowerState.SHUTDOWN),
    "unpause": ("unpause", {"vm_state": VmState.PAUSED, "task_state": TaskState.UNPAUSING}, PowerState.PAUSED),
    "delete": ("destroy", {"task_state": TaskState.DELETING}, PowerState.SHUTDOWN),
    "delete of one in error": (
        "destroy",
        {"vm_state": VmState.ERROR, "task_state": TaskState.DELETING},
        PowerState.RUNNING,
    ),
}


@pytest.mark.anyio
@pytest.mark.parametrize("case", VERBS_THAT_MAY_RAISE)
async def test_a_verb_that_lacks_something_defers_and_puts_the_record_back(case: str) -> None:
    verb, columns, power = VERBS_THAT_MAY_RAISE[case]
    before = instance(1, **columns)
    fault = Fault(verb=verb, error="NeedNotMet", message="the mount is not there")
    outcome, after, driver = await settled(before, power, faults=(fault,))
    assert (outcome.kind, after) == (Kind.DEFERRED, before)
    assert driver.count(verb) == 1
    assert [need.kind for need in outcome.needs] == [NeedKind.DISK]
    assert outcome.problem is not None
    assert outcome.problem.message.startswith("the mount is not there")
    # A deletion does not look first.
    assert outcome.runs is (power is PowerState.RUNNING and verb != "destroy")


@pytest.mark.anyio
@pytest.mark.parametrize("case", [case for case in STARTS if case != "soft reboot"])
async def test_a_guest_without_a_definition_is_left_to_nova(case: str) -> None:
    columns, _ = STARTS[case]
    before = instance(1, **columns)
    async with arranged([before], guests=[], resume_guests=True) as host:
        outcome = outcome_of(await host.run(), 1)
        after = await host.record(1)
    assert (outcome.kind, after) == (Kind.DEFERRED, before)
    assert [(need.kind, need.met_by) for need in outcome.needs] == [(NeedKind.DEFINITION, MetBy.NOVA)]
    assert uuid_of(1) in str(outcome.needs)


@pytest.mark.anyio
@pytest.mark.parametrize("error", ["DriverError", "OSError", "RuntimeError"])
async def test_a_start_that_fails_for_another_reason_is_error_as_in_nova(error: ErrorName) -> None:
    fault = Fault(verb="resume_state_on_host_boot", error=error)
    outcome, after, _ = await settled(instance(1), PowerState.SHUTDOWN, faults=(fault,))
    assert outcome.kind is Kind.FAILED
    assert after == replace(instance(1), vm_state=VmState.ERROR)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "task", [None, TaskState.IMAGE_UPLOADING, TaskState.RESIZE_PREP, TaskState.PAUSING, TaskState.REBOOT_STARTED_HARD]
)
async def test_a_guest_that_runs_needs_nothing(task: TaskState | None) -> None:
    need = SimulatedNeed(name="/dev/sdb", state=NeedState.UNVERIFIED)
    outcome, after, driver = await settled(instance(1, task_state=task), PowerState.RUNNING, need)
    assert outcome.kind is Kind.INITIALIZED
    assert after == instance(1)
    assert starts_of(driver) == {}
