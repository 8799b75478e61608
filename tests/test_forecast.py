import itertools
from dataclasses import replace
from typing import Any

import pytest

from bringup.daemon.decisions.actions import (
    AbortLiveMigration,
    DestroyEvacuated,
    EnsureFilteringRules,
    Fence,
    PlugVifs,
    Reboot,
    ResumeStateOnHostBoot,
    RevertMigration,
    Save,
    SaveMigration,
)
from bringup.daemon.decisions.describe import arguments_of, condition, state_word, words
from bringup.daemon.decisions.did import after_look, combined, did_by, did_of
from bringup.daemon.decisions.forecast import POWER_STATES, Course, Forecast, WhichLook, foresee, undisturbed
from bringup.daemon.decisions.from_evacuation import EVACUATED
from bringup.daemon.decisions.from_guest import FROM_FIRST_LOOK, FROM_SECOND_LOOK
from bringup.daemon.decisions.from_record import FROM_RECORD
from bringup.daemon.decisions.outcomes import Did, Kind
from bringup.daemon.decisions.rules import Facts, Step, decide
from bringup.daemon.decisions.states import PowerState, TaskState, UnknownState, VmState
from bringup.drivers.base import RebootType
from support.records import HOST, instance, migration

RUNNING, PAUSED, SHUTDOWN, NOSTATE = PowerState.RUNNING, PowerState.PAUSED, PowerState.SHUTDOWN, PowerState.NOSTATE
DOWN = tuple(state for state in POWER_STATES if state is not RUNNING)


def facts(*, resume_guests: bool = False, evacuation: str | None = None, **fields: Any) -> Facts:
    return Facts(
        instance=instance(**fields),
        host=HOST,
        resume_guests=resume_guests,
        evacuation=None if evacuation is None else migration(status=evacuation),
    )


def because(forecast: Forecast) -> list[tuple[str, ...]]:
    return [course.because for course in forecast.courses]


def read_through(
    all_facts: Facts, first: PowerState, second: PowerState
) -> tuple[tuple[str, ...], tuple[Step, ...], Did]:
    """Read the tables one after the other, as init_instance does."""
    names: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    done: Did | None = None
    for table, look in ((FROM_RECORD, None), (FROM_FIRST_LOOK, first), (FROM_SECOND_LOOK, second)):
        plan = decide(table, replace(all_facts, look=look))
        names, steps = names + plan.because, steps + plan.steps
        done = done if look is None else after_look(done, look)
        for step in plan.steps:
            done = combined(done, did_by(step.action, look))
            if isinstance(step.action, Save):
                all_facts = replace(all_facts, instance=replace(all_facts.instance, **step.action.changes))
        if plan.ends:
            break
    return names, steps, did_of(done, kind=plan.kind, look=look)


def test_a_healthy_instance_reads_in_two_lines() -> None:
    forecast = foresee(facts())

    plugged = Step("vifs", PlugVifs())
    assert forecast == Forecast(
        (
            Course(
                because=("vifs", "runs"),
                why=(
                    "Its NICs are made ready on the host, whether it runs or not.",
                    "It runs: its firewall rules are put in place.",
                ),
                steps=(plugged, Step("runs", EnsureFilteringRules())),
                kind=Kind.INITIALIZED,
                first_look=POWER_STATES,
                second_look=(RUNNING,),
            ),
            Course(
                because=("vifs", "stays_off"),
                why=(
                    "Its NICs are made ready on the host, whether it runs or not.",
                    "It does not run and is not required to: it stays as it is.",
                ),
                steps=(plugged,),
                kind=Kind.INITIALIZED,
                first_look=POWER_STATES,
                second_look=DOWN,
            ),
        )
    )
    assert (forecast.because, forecast.steps, forecast.waits_for) == (("vifs",), (plugged,), WhichLook.SECOND)
    assert [condition(course, forecast) for course in forecast.courses] == [
        "if running at the second look",
        "if not running at the second look",
    ]


def test_what_the_record_decides_has_one_course_and_no_look() -> None:
    forecast = foresee(facts(task_state=TaskState.SPAWNING))

    course = forecast.certain
    assert course is not None
    assert (course.because, course.first_look, course.second_look) == (("build_interrupted",), (), ())
    assert forecast.waits_for is None
    assert condition(course, forecast) == ""


def test_what_no_look_can_change_is_certain_before_the_look() -> None:
    forecast = foresee(facts(task_state=TaskState.POWERING_OFF))

    assert forecast.certain is not None
    assert forecast.certain.first_look == POWER_STATES
    assert forecast.waits_for is None


def test_an_interrupted_reboot_waits_for_the_first_look() -> None:
    forecast = foresee(facts(task_state=TaskState.REBOOT_STARTED))

    assert forecast.waits_for is WhichLook.FIRST
    assert forecast.because == ()
    assert because(forecast) == [
        ("transition_finished", "vifs", "runs"),
        ("transition_finished", "vifs", "stays_off"),
        ("soft_reboot_went_down",),
    ]
    assert [condition(course, forecast) for course in forecast.courses] == [
        "if running at the first look, running at the second look",
        "if running at the first look, not running at the second look",
        "if not running at the first look",
    ]


def test_a_look_leaves_the_courses_that_begin_with_it() -> None:
    forecast = foresee(facts(task_state=TaskState.REBOOT_STARTED), SHUTDOWN)

    assert because(forecast) == [("soft_reboot_went_down",)]


def test_both_looks_leave_one_course() -> None:
    course = foresee(facts(), SHUTDOWN, RUNNING).certain

    assert course is not None
    assert course.because == ("vifs", "runs")


STATES = list(itertools.product(VmState, (None, *TaskState)))


@pytest.mark.no_cover
@pytest.mark.parametrize("resume_guests", [False, True])
def test_every_course_is_what_the_tables_say_one_after_the_other(*, resume_guests: bool) -> None:
    checked = 0
    for vm, task in STATES:
        known = facts(vm_state=vm, task_state=task, resume_guests=resume_guests)
        courses = [(course, course.done) for course in foresee(known).courses]
        for first, second in itertools.product(POWER_STATES, POWER_STATES):
            expected = read_through(known, first, second)
            certain = foresee(known, first, second).certain
            found = [
                (
                    course.because,
                    course.steps,
                    done[first if course.first_look else None, second if course.second_look else None],
                )
                for course, done in courses
                if (not course.first_look or first in course.first_look)
                and (not course.second_look or second in course.second_look)
            ]
            assert found == [expected], (vm, task, first, second)
            assert certain is not None
            assert (certain.because, certain.steps, certain.did) == expected
            checked += 1
    assert checked == len(STATES) * 36


def test_no_two_courses_of_a_forecast_are_the_same() -> None:
    for vm, task in STATES:
        courses = foresee(facts(vm_state=vm, task_state=task, resume_guests=True)).courses
        said = [(course.first_look, course.because, course.steps) for course in courses]
        assert all(one != other for one, other in itertools.combinations(said, 2)), (vm, task)


@pytest.mark.parametrize(
    ("status", "action"),
    [("accepted", Fence()), ("pre-migrating", Fence()), ("done", DestroyEvacuated())],
)
def test_an_evacuated_guest_that_is_still_here_is_dealt_with(status: str, action: Fence | DestroyEvacuated) -> None:
    course = foresee(facts(evacuation=status, host="compute-2"), has_guest=True).certain

    assert course is not None
    assert course.steps[0].action == action
    assert course.because == decide(EVACUATED, facts(evacuation=status, host="compute-2")).because


def test_an_evacuated_instance_without_a_guest_is_left_alone() -> None:
    course = foresee(facts(evacuation="accepted"), has_guest=False).certain

    assert course is not None
    assert (course.because, course.steps, course.kind) == (("evacuated",), (), Kind.SKIPPED)


def test_whether_the_guest_of_an_evacuated_instance_is_here_is_a_branch() -> None:
    forecast = foresee(facts(evacuation="done", host="compute-2"))

    assert because(forecast) == [("evacuated",), ("not_ours",)]
    assert [condition(course, forecast) for course in forecast.courses] == [
        "if the hypervisor has its guest",
        "if the hypervisor has no guest of it",
    ]


def test_rules_of_one_name_in_two_tables_are_not_taken_for_one() -> None:
    forecast = foresee(facts(evacuation="accepted"))
    twice = Forecast(tuple(replace(course, because=("evacuated",)) for course in forecast.courses))

    assert twice.because == ()


@pytest.mark.parametrize("has_guest", [True, False, None])
def test_an_instance_that_came_back_is_like_any_other(*, has_guest: bool | None) -> None:
    assert foresee(facts(evacuation="done"), has_guest=has_guest) == foresee(facts())


@pytest.mark.parametrize(
    ("fields", "look", "expected"),
    [
        ({}, RUNNING, ("vifs", "runs")),
        ({}, SHUTDOWN, ("vifs", "stays_off")),
        ({"resume_guests": True}, SHUTDOWN, ("vifs", "ran_before")),
        ({"task_state": TaskState.RESIZE_MIGRATING}, SHUTDOWN, ("vifs", "resize_interrupted", "runs")),
        (
            {"task_state": TaskState.RESIZE_MIGRATING, "system_metadata": {"old_vm_state": "stopped"}},
            RUNNING,
            ("vifs", "resize_interrupted", "stays_off"),
        ),
        ({"task_state": TaskState.UNPAUSING}, PAUSED, ("unpause_interrupted",)),
        ({"vm_state": VmState.ERROR}, RUNNING, ("in_error",)),
    ],
)
def test_a_guest_that_only_does_what_it_is_reported_is_seen_again_as_it_was_left(
    fields: dict[str, Any], look: PowerState, expected: tuple[str, ...]
) -> None:
    known = facts(**fields)

    assert undisturbed(foresee(known, look), look).because == expected
    assert undisturbed(foresee(known), look).because == expected


def test_a_forecast_made_for_another_look_is_refused() -> None:
    with pytest.raises(ValueError, match="RUNNING"):
        undisturbed(foresee(facts(task_state=TaskState.REBOOT_STARTED), SHUTDOWN), RUNNING)


@pytest.mark.parametrize(
    ("action", "text", "arguments"),
    [
        (Save({"task_state": None}), "save task_state=none", {"changes": {"task_state": None}}),
        (
            Save(
                {"vm_state": VmState.ERROR, "power_state": SHUTDOWN}, expected_task_states=(TaskState.MIGRATING, None)
            ),
            "save vm_state=error power_state=shutdown",
            {
                "changes": {"vm_state": "error", "power_state": "shutdown"},
                "expected_task_states": ["migrating", None],
            },
        ),
        (Reboot(RebootType.HARD), "reboot HARD", {"reboot_type": "HARD"}),
        (RevertMigration(power_on=True), "finish_revert_migration, power on", {"power_on": True}),
        (RevertMigration(power_on=False), "finish_revert_migration, stay off", {"power_on": False}),
        (SaveMigration("u", "error"), "save migration status=error", {"migration_uuid": "u", "status": "error"}),
        (PlugVifs(), "plug_vifs", {}),
        (ResumeStateOnHostBoot(), "resume_state_on_host_boot", {}),
        (AbortLiveMigration(), "live_migration_abort", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_an_action_has_words_and_arguments(action: Any, text: str, arguments: dict[str, Any]) -> None:
    left_out = {"expected_task_states": None} if isinstance(action, Save) and len(action.changes) == 1 else {}

    assert words(action) == text
    assert arguments_of(action) == arguments | left_out


@pytest.mark.parametrize(
    ("state", "word"),
    [(None, "none"), (VmState.SOFT_DELETED, "soft-delete"), (NOSTATE, "nostate"), (UnknownState(9), "9")],
)
def test_a_state_has_the_word_of_novas_tools(state: Any, word: str) -> None:
    assert state_word(state) == word
