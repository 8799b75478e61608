"""The order in which instances are taken: what will take longest first."""

import random
from collections.abc import Iterable

import pytest

from bringup.daemon.decisions.execution_order import EXPECTED_S, LOOK_S, RESUME_S, Turns, expected_s, turns_of
from bringup.daemon.decisions.policies import PacePolicy
from bringup.daemon.decisions.rules import Facts
from bringup.daemon.decisions.start_order import start_order
from bringup.daemon.decisions.states import PowerState, TaskState, UnknownState, VmState
from support.drivers import uuid_of
from support.hosts import ELSEWHERE, HOST, evacuation, instance


def facts(number: int, *, resume_guests: bool = False, **columns: object) -> Facts:
    return Facts(instance=instance(number, **columns), host=HOST, resume_guests=resume_guests)


def in_order(given: Iterable[Facts]) -> list[Facts]:
    return [*start_order(given, PacePolicy()).queue]


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


def test_one_that_was_brought_back_before_takes_as_long_as_then() -> None:
    assert expected_s(facts(1, resume_guests=True), 47.5) == 47.5
    assert expected_s(facts(1, resume_guests=True), 0.2) == LOOK_S
    assert expected_s(facts(1), 47.5) == LOOK_S
    assert expected_s(facts(1, task_state=TaskState.REBOOTING), 47.5) == EXPECTED_S[TaskState.REBOOTING]


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


SLOTS = 4


def order_of(given: list[Facts], *, never_end: frozenset[str] = frozenset()) -> list[str]:
    """Return all in the order in which they get a slot; what does not hang is over before the next one."""
    turns, hanging, order = turns_of(given), 0, list[str]()
    while turns and hanging < SLOTS:
        one = turns.take(SLOTS)
        order.append(one.instance.uuid)
        if one.instance.uuid in never_end:
            hanging += 1
        else:
            turns.left(one)
    return order


def test_the_first_is_known_before_it_is_taken_and_what_is_in_slots_until_it_leaves() -> None:
    given = [facts(1, task_state=TaskState.POWERING_OFF), facts(2), facts(3)]
    turns = turns_of(given[1:], {uuid_of(2): [uuid_of(3)]})
    first = turns.first
    taken = turns.take(SLOTS)
    meanwhile = [*turns.in_slots]
    turns.left(taken)

    assert (first, taken, meanwhile, [*turns.in_slots]) == (given[2], given[2], [given[2]], [])
    assert turns_of(given).first == given[0]


@pytest.mark.parametrize("seed", range(20))
def test_whoever_hangs_all_others_are_taken(seed: int) -> None:
    chosen = random.Random(seed)  # noqa: S311 - no secret
    states = [None, TaskState.POWERING_OFF, TaskState.REBOOT_PENDING, TaskState.POWERING_ON]
    given = [
        facts(number, project_id=chosen.choice("abc"), task_state=chosen.choice(states)) for number in range(1, 120)
    ]
    theirs = frozenset(
        one.instance.uuid
        for one in given
        if one.instance.project_id == "a"
        and one.instance.task_state in (TaskState.POWERING_OFF, TaskState.REBOOT_PENDING)
    )
    assert len(theirs) > SLOTS

    order = order_of(in_order(given), never_end=theirs)

    # Those that nobody waits for are taken whole; of those that are waited for, as many as there are turns.
    quick = {one.instance.uuid for one in given if one.instance.task_state in (None, TaskState.POWERING_ON)}
    assert quick <= set(order)
    assert len(theirs & set(order)) == SLOTS
    first_of_b = next(uuid for uuid in order if uuid not in theirs | quick)
    assert order.index(first_of_b) <= 1


def test_with_no_project_they_are_of_one() -> None:
    given = [facts(number, task_state=TaskState.POWERING_OFF) for number in range(1, 9)]

    assert order_of(given) == [one.instance.uuid for one in given]


def test_what_is_not_taken_is_still_there_and_nothing_is_taken_twice() -> None:
    given = [facts(n, project_id=str(n % 3), task_state=random.choice([None, *EXPECTED_S])) for n in range(50)]  # noqa: S311 - no secret

    assert sorted(order_of(given)) == sorted(one.instance.uuid for one in given)
    with pytest.raises(IndexError):
        turns_of([]).take(SLOTS)


def waiting_for(after: dict[int, list[int]], count: int = 3) -> Turns[Facts]:
    given = [facts(number) for number in range(1, count + 1)]
    return turns_of(given, {uuid_of(one): [uuid_of(each) for each in others] for one, others in after.items()})


def test_one_that_waits_is_passed_over_and_has_its_rank_afterwards() -> None:
    turns = waiting_for({1: [2]}, 4)

    first = turns.take(SLOTS)
    freed = turns.met(uuid_of(2))

    assert first.instance.uuid == uuid_of(2)
    assert [one.instance.uuid for one in freed] == [uuid_of(1)]
    assert [turns.take(SLOTS).instance.uuid for _ in range(3)] == [uuid_of(1), uuid_of(3), uuid_of(4)]
    assert not turns


def test_while_all_that_are_left_wait_none_can_be_taken() -> None:
    turns = waiting_for({2: [1], 3: [1, 2]})
    turns.take(SLOTS)

    assert turns
    assert not turns.can_take
    with pytest.raises(IndexError):
        turns.take(SLOTS)

    assert (turns.is_awaited(uuid_of(1)), turns.is_awaited(uuid_of(3))) == (True, False)
    turns.met(uuid_of(1))
    assert turns.take(SLOTS).instance.uuid == uuid_of(2)
    assert not turns.can_take
    turns.met(uuid_of(2))
    assert turns.take(SLOTS).instance.uuid == uuid_of(3)


def test_what_is_not_in_the_queue_is_not_waited_for() -> None:
    assert waiting_for({1: [77]}).take(SLOTS).instance.uuid == uuid_of(1)
