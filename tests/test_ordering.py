"""The order in which instances are taken: what will take longest first."""

import random

import pytest

from bringup.daemon.decisions import Facts
from bringup.daemon.ordering import EXPECTED_S, LOOK_S, RESUME_S, expected_s, in_order
from bringup.daemon.states import PowerState, TaskState, UnknownState, VmState
from support.drivers import uuid_of
from support.hosts import ELSEWHERE, HOST, evacuation, instance


def facts(number: int, *, resume_guests: bool = False, **columns: object) -> Facts:
    return Facts(instance=instance(number, **columns), host=HOST, resume_guests=resume_guests)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (facts(1, task_state=TaskState.POWERING_OFF), EXPECTED_S[TaskState.POWERING_OFF]),
        (facts(1, task_state=TaskState.REBOOT_STARTED_HARD), EXPECTED_S[TaskState.REBOOT_STARTED_HARD]),
        (facts(1, resume_guests=True), RESUME_S),
        (facts(1, resume_guests=True, power_state=PowerState.SHUTDOWN), LOOK_S),
        (facts(1), LOOK_S),
        (facts(1, task_state=TaskState.IMAGE_SNAPSHOT), LOOK_S),
        (facts(1, task_state=UnknownState("teleporting")), LOOK_S),
        (facts(1, host=ELSEWHERE, task_state=TaskState.POWERING_OFF), 0),
        (facts(1, vm_state=VmState.SOFT_DELETED), 0),
        (facts(1, vm_state=VmState.BUILDING, task_state=TaskState.SPAWNING), 0),
        (Facts(instance=instance(1), host=HOST, resume_guests=True, evacuation=evacuation(1, "accepted")), 0),
    ],
    ids=[
        "stop",
        "reboot",
        "resume",
        "was-off",
        "look",
        "snapshot",
        "unknown-state",
        "elsewhere",
        "soft-deleted",
        "building",
        "evacuated",
    ],
)
def test_how_long_an_instance_will_take_is_guessed_from_its_record(one: Facts, expected: float) -> None:
    assert expected_s(one) == expected


def test_what_takes_long_is_taken_first_and_what_needs_nothing_last() -> None:
    given = [
        facts(1, vm_state=VmState.SOFT_DELETED),
        facts(2),
        facts(3, task_state=TaskState.POWERING_OFF),
        facts(4, resume_guests=True),
        facts(5, task_state=TaskState.REBOOTING),
    ]

    assert [one.instance.uuid for one in in_order(given)] == [uuid_of(number) for number in (3, 5, 4, 2, 1)]


def test_two_runs_take_the_same_order() -> None:
    given = [facts(number, task_state=random.choice([None, *EXPECTED_S])) for number in range(50)]  # noqa: S311 - no secret
    shuffled = random.sample(given, len(given))

    assert in_order(given) == in_order(shuffled)


def test_no_instance_is_lost_or_taken_twice() -> None:
    given = [facts(number) for number in range(50)]

    assert sorted(one.instance.uuid for one in in_order(reversed(given))) == [uuid_of(number) for number in range(50)]
