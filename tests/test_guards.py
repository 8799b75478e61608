"""The whole plan is looked at before anything is done."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.daemon.decisions.from_evacuation import EVACUATED
from bringup.daemon.decisions.from_record import FROM_RECORD
from bringup.daemon.decisions.guards import ALL, held_together, is_destructive, quarantined
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.policies import UNGUARDED, Guards
from bringup.daemon.decisions.rules import Facts, decide
from bringup.daemon.decisions.states import TaskState, VmState
from support.drivers import uuid_of
from support.hosts import HOST, evacuation, instance

MODEST = Guards(destroy_freely=2, destroy_at_most=10, destroy_share=0.5, quarantine_after=2)


def evacuated(*numbers: int) -> list[Facts]:
    return [
        Facts(instance=instance(number, host="compute-2"), host=HOST, evacuation=evacuation(number))
        for number in numbers
    ]


def deleting(*numbers: int) -> list[Facts]:
    return [Facts(instance=instance(number, task_state=TaskState.DELETING), host=HOST) for number in numbers]


def running(*numbers: int) -> list[Facts]:
    return [Facts(instance=instance(number), host=HOST) for number in numbers]


def held(*groups: Sequence[Facts]) -> set[str]:
    return {facts.instance.uuid for group in groups for facts in group if facts.hold is not None}


def uuids(*numbers: int) -> set[str]:
    return {uuid_of(number) for number in numbers}


@pytest.mark.parametrize(
    ("destroyed", "guests", "forbidden"),
    [(0, 0, False), (1, 1, False), (2, 2, False), (3, 6, False), (3, 5, True), (10, 40, False), (11, 1000, True)],
)
def test_few_may_be_destroyed_freely_then_a_number_and_a_share_decide(
    destroyed: int, guests: int, *, forbidden: bool
) -> None:
    assert MODEST.forbids(destroyed, guests) is forbidden


def test_without_limits_nothing_is_held() -> None:
    own, gone = held_together(deleting(1, 2, 3), evacuated(4, 5), UNGUARDED, guests=5, released=())
    assert held(own, gone) == set()


def test_one_too_many_holds_everything_that_destroys_and_nothing_else() -> None:
    own, gone = held_together([*running(1, 2), *deleting(3)], evacuated(4, 5), MODEST, guests=5, released=frozenset())

    assert held(own, gone) == uuids(3, 4, 5)
    for facts, table in ((own[2], FROM_RECORD), (gone[0], EVACUATED)):
        plan = decide(table, facts)
        assert (plan.because[-1], plan.steps, plan.kind) == ("destruction_held", (), Kind.HELD)
    assert decide(FROM_RECORD, own[0]).because == ()


def test_the_reason_counts_and_names_the_way_out() -> None:
    _own, gone = held_together([], evacuated(1, 2, 3), MODEST, guests=4, released=())
    hold = gone[0].hold
    assert hold is not None
    assert "3 guests were to be destroyed, of 4" in hold.why
    assert "bringup release" in hold.why


@pytest.mark.parametrize("released", [{ALL}, uuids(1, 2, 3)], ids=["all", "each"])
def test_what_an_operator_has_released_is_not_held(released: set[str]) -> None:
    _own, gone = held_together([], evacuated(1, 2, 3), MODEST, guests=3, released=released)
    assert held(gone) == set()


def test_a_single_release_releases_only_that_one_as_long_as_the_rest_is_too_much() -> None:
    _own, gone = held_together([], evacuated(1, 2, 3, 4), MODEST, guests=4, released=uuids(2))
    assert held(gone) == uuids(1, 3, 4)


def test_an_evacuation_that_is_not_done_destroys_nothing_and_is_not_counted() -> None:
    facts = Facts(instance=instance(1, host="compute-2"), host=HOST, evacuation=evacuation(1, "accepted"))
    assert not is_destructive(facts, evacuated=True)
    back = Facts(instance=instance(1), host=HOST, evacuation=evacuation(1))
    assert not is_destructive(back, evacuated=True)


@given(
    destroyed=st.integers(0, 60),
    guests=st.integers(0, 60),
    done=st.integers(0, 60),
)
def test_a_run_that_was_let_through_is_not_held_when_it_continues(destroyed: int, guests: int, done: int) -> None:
    """Each guest that was destroyed is one of the planned ones and one of the guests less."""
    destroyed, done = min(destroyed, guests), min(done, destroyed, guests)
    if not MODEST.forbids(destroyed, guests):
        assert not MODEST.forbids(destroyed - done, guests - done)


@pytest.mark.parametrize(("times", "is_held"), [(0, False), (1, False), (2, True), (3, True)])
def test_what_was_in_flight_too_often_when_the_host_died_is_quarantined(times: int, *, is_held: bool) -> None:
    [facts] = quarantined(running(1), MODEST, {uuid_of(1): times}, ())
    assert (facts.hold is not None) is is_held
    if is_held:
        plan = decide(FROM_RECORD, facts)
        assert (plan.because, plan.kind) == (("quarantined",), Kind.HELD)


@pytest.mark.parametrize("released", [{ALL}, uuids(1)])
def test_a_quarantine_ends_with_an_operators_approval(released: set[str]) -> None:
    assert held(quarantined(running(1), MODEST, {uuid_of(1): 9}, released)) == set()


def test_a_quarantine_that_is_set_to_never_holds_nothing() -> None:
    assert held(quarantined(running(1), Guards(quarantine_after=0), {uuid_of(1): 9}, ())) == set()


@pytest.mark.parametrize(
    "columns", [{"host": "compute-2"}, {"vm_state": VmState.SOFT_DELETED}, {"vm_state": VmState.ERROR}]
)
def test_what_would_not_be_touched_anyway_is_not_shown_as_held(columns: dict[str, object]) -> None:
    facts = Facts(instance=instance(1, **columns), host=HOST)
    [facts] = quarantined([facts], MODEST, {uuid_of(1): 2}, ())
    assert decide(FROM_RECORD, facts).kind is Kind.SKIPPED
