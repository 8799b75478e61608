"""Order and dependencies: priorities of operators, places of a project, what waits for what, and what is ignored."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.daemon.decisions.execution_order import turns_of
from bringup.daemon.decisions.pace_keys import PaceKeys, PaceRule
from bringup.daemon.decisions.policies import PacePolicy
from bringup.daemon.decisions.rules import Facts
from bringup.daemon.decisions.start_order import StartOrder, start_order
from bringup.daemon.decisions.states import TaskState
from support.drivers import uuid_of
from support.hosts import HOST, instance

SLOTS = 4


def guest(number: int, project: str = "a", *, specs: Mapping[str, Any] | None = None, **columns: Any) -> Facts:
    """Return an instance whose name is its letter: 1 is ``a``."""
    flavor = {"name": "m1", "extra_specs": specs} if specs is not None else {}
    columns.setdefault("display_name", chr(ord("a") + number - 1))
    record = instance(number, project_id=project, flavor=flavor, **columns)
    return Facts(instance=record, host=HOST, resume_guests=True)


def meta(**values: object) -> dict[str, str]:
    return {f"bringup:{key}": str(value) for key, value in values.items()}


def rule(name: str, priority: int | None = None, after: Sequence[str] = (), **keys: Any) -> PaceRule:
    return PaceRule(name=name, keys=PaceKeys(priority, tuple(after), keys.pop("ready", None)), **keys)


def ordered(
    *guests: Facts, policy: PacePolicy | None = None, expected: Mapping[str, float] | None = None
) -> StartOrder:
    return start_order(guests, policy or PacePolicy(), expected or {})


def names(order: StartOrder) -> str:
    return "".join(facts.instance.display_name for facts in order.queue)


def dependencies(order: StartOrder) -> dict[str, str]:
    name = {facts.instance.uuid: facts.instance.display_name for facts in order.queue}
    return {name[one]: "".join(sorted(name[each] for each in others)) for one, others in order.after.items()}


def sentences(order: StartOrder) -> list[str]:
    return [sentence for found in order.ignored.values() for sentence in found]


def test_without_keys_the_uuid_decides_among_equals() -> None:
    assert names(ordered(guest(3), guest(1), guest(2))) == "abc"


def test_a_flavor_with_a_higher_priority_goes_first_and_a_lower_one_last() -> None:
    found = ordered(guest(1, specs=meta(priority=-5)), guest(2), guest(3, specs=meta(priority=7)))

    assert names(found) == "cba"


def test_a_rule_of_the_host_is_above_the_flavor_and_the_first_rule_above_the_next() -> None:
    policy = PacePolicy(rules=(rule("c", 9), rule("?", 1), rule("c", -9)))

    assert names(ordered(guest(1), guest(2, specs=meta(priority=50)), guest(3), policy=policy)) == "cab"


@pytest.mark.parametrize(
    "chosen",
    [
        PaceRule(project="b", keys=PaceKeys(1)),
        PaceRule(flavor="big", keys=PaceKeys(1)),
        PaceRule(flavor="big-id", keys=PaceKeys(1)),
        PaceRule(name="b*", keys=PaceKeys(1)),
        PaceRule(name="instance-0*2", keys=PaceKeys(1)),
        PaceRule(uuid=uuid_of(2), keys=PaceKeys(1)),
        PaceRule(project="b", name="b", flavor="big", keys=PaceKeys(1)),
    ],
)
def test_a_rule_is_for_a_project_a_flavor_a_name_or_a_uuid(chosen: PaceRule) -> None:
    flavor = {"original_name": "big", "flavorid": "big-id"}
    record = instance(2, project_id="b", display_name="b", name="instance-00000002", flavor=flavor)
    other = Facts(instance=record, host=HOST, resume_guests=True)

    assert names(ordered(guest(1), other, guest(3), policy=PacePolicy(rules=(chosen,)))) == "bac"


def test_a_rule_whose_conditions_do_not_all_hold_is_for_nobody() -> None:
    assert not rule("b", 1, project="elsewhere").matches(guest(2).instance)


def test_what_took_longest_on_the_boot_before_goes_first_among_equals_of_priority() -> None:
    expected = {uuid_of(2): 90.0, uuid_of(3): 5.0}
    found = ordered(guest(1), guest(2), guest(3), guest(4, specs=meta(priority=1)), expected=expected)

    assert names(found) == "dbac"


def test_a_user_exchanges_the_places_of_own_guests_and_of_no_others() -> None:
    """The places of ``b`` stay where they are, however high the other project's numbers."""
    mine = [guest(1), guest(3), guest(5, metadata=meta(priority=100))]
    others = [guest(2, "b"), guest(4, "b")]

    assert names(ordered(*mine, *others)) == "ebadc"
    assert names(ordered(*mine, *others, policy=PacePolicy(instance_policy="ignored"))) == "abcde"
    assert names(ordered(*mine, *others, policy=PacePolicy(instance_policy="decides"))) == "eabcd"


def test_where_a_user_decides_metadata_is_above_the_flavor() -> None:
    both = guest(2, specs=meta(priority=-9, after="c"), metadata=meta(priority=9))
    found = ordered(guest(1), both, guest(3), policy=PacePolicy(instance_policy="decides"))

    assert (names(found), dependencies(found)) == ("cba", {"b": "c"})


def test_a_dependency_goes_first_with_the_priority_of_what_waits_for_it() -> None:
    found = ordered(guest(1), guest(2, specs=meta(priority=7, after="c")), guest(3, specs=meta(after="d")), guest(4))

    assert names(found) == "dcba"
    assert dependencies(found) == {"b": "c", "c": "d"}


def test_what_goes_first_has_the_priority_of_its_place() -> None:
    high, low = meta(priority=50), meta(priority=-5)
    order = ordered(
        guest(1, "x", specs=high),
        guest(2, "x", metadata=high),
        guest(3, "y"),
        guest(4, "y", specs=low | meta(after="c")),
    )
    found = {facts.instance.display_name: order.priority.get(facts.instance.uuid, 0) for facts in order.queue}

    assert (names(order), found) == ("bacd", {"b": 50, "a": 0, "c": 0, "d": -5})


def test_a_dependency_of_a_user_has_the_place_of_what_waits_for_it() -> None:
    """The flavor of ``a`` is an operator's: its place is the project's, and nobody else's is touched."""
    first = guest(1, specs=meta(priority=9), metadata=meta(after="d"))
    found = ordered(first, guest(2, "b"), guest(3, "b"), guest(4))

    assert names(found) == "dbca"
    assert dependencies(found) == {"a": "d"}


def test_a_dependency_is_named_by_its_name_its_uuid_or_the_name_of_its_guest() -> None:
    texts = f"b, {uuid_of(3).upper()} ,instance-00000004"
    found = ordered(guest(1, metadata=meta(after=texts)), guest(2), guest(3), guest(4, name="instance-00000004"))

    assert dependencies(found) == {"a": "bcd"}
    assert sentences(found) == []


@pytest.mark.parametrize(
    ("after", "why"),
    [
        ("nowhere", "no guest of this host has that name or UUID"),
        (uuid_of(99), "no guest of this host has that name or UUID"),
        ("theirs", "that is a guest of another project"),
        ("a", "that is the guest itself"),
        ("twin", "2 guests have that name: give a UUID"),
    ],
)
def test_a_name_that_cannot_be_used_is_described_and_nobody_waits(after: str, why: str) -> None:
    twins = [guest(number, display_name="twin") for number in (3, 4)]
    found = ordered(guest(1, metadata=meta(after=after)), guest(2, "b", display_name="theirs"), *twins)

    assert found.after == {}
    assert sentences(found) == [f'bringup:after "{after}" is ignored: {why}']


def test_an_operator_may_have_a_guest_wait_for_one_of_another_project() -> None:
    policy = PacePolicy(rules=(rule("a", after=["b"]),))

    assert dependencies(ordered(guest(1), guest(2, "b"), policy=policy)) == {"a": "b"}


def test_a_name_that_several_projects_have_is_the_own_projects() -> None:
    web, other = guest(1, specs=meta(after="db")), guest(2, "b", display_name="db")
    found = ordered(web, other, guest(3, display_name="db"))

    assert found.after == {uuid_of(1): frozenset({uuid_of(3)})}


def test_a_uuid_is_that_of_a_guest_whatever_others_are_called() -> None:
    web = guest(1, "ours", specs=meta(after=uuid_of(2)))
    named = guest(3, "theirs", display_name=uuid_of(2))
    found = ordered(web, guest(2, "ours"), named)

    assert found.after == {uuid_of(1): frozenset({uuid_of(2)})}
    assert found.ignored == {}


def test_nobody_waits_in_a_circle_and_each_of_it_is_described() -> None:
    found = ordered(
        guest(1, metadata=meta(after="b")),
        guest(2, metadata=meta(after="c,d")),
        guest(3, metadata=meta(after="a")),
        guest(4),
    )

    assert dependencies(found) == {"b": "d"}
    assert sentences(found) == [
        f'bringup:after "{name}" is ignored: 3 guests wait for each other in a circle' for name in "bca"
    ]


def test_a_user_cannot_undo_what_an_operator_orders_by_closing_a_circle() -> None:
    policy = PacePolicy(rules=(rule("a", after=["b"]),))
    found = ordered(guest(1), guest(2, metadata=meta(after="a")), policy=policy)

    assert dependencies(found) == {"a": "b"}
    assert sentences(found) == ['bringup:after "a" is ignored: 2 guests wait for each other in a circle']


@pytest.mark.parametrize(
    ("key", "value", "right"),
    [
        ("priority", "high", "a whole number from -100 to 100"),
        ("priority", "101", "a whole number from -100 to 100"),
        ("priority", "²", "a whole number from -100 to 100"),
        ("after", " , ", "names or UUIDs of guests of this host, 32 at most, with commas between them"),
        ("ready", "soon", "one of agent, quiet, started"),
    ],
)
def test_a_value_that_is_not_understood_is_described_and_orders_nothing(key: str, value: str, right: str) -> None:
    found = ordered(guest(1), guest(2, metadata=meta(**{key: value})), guest(3))

    assert names(found) == "abc"
    assert sentences(found) == [f'bringup:{key} in its metadata is "{value}" and is ignored: give {right}']


def test_what_shows_that_a_guest_is_ready_is_the_operators_before_the_users() -> None:
    found = ordered(
        guest(1, metadata=meta(ready="quiet")),
        guest(2, metadata=meta(ready="quiet"), specs=meta(ready="agent")),
        guest(3, specs=meta(ready="started")),
        guest(4),
    )

    assert found.ready == {uuid_of(1): "quiet", uuid_of(2): "agent", uuid_of(3): "started"}


def test_a_user_frees_those_that_wait_for_a_guest_and_not_its_slot() -> None:
    found = ordered(guest(1, metadata=meta(ready="started")))

    assert found.ready == {}
    assert found.ready_at_start == {uuid_of(1)}


def test_of_a_part_of_the_queue_the_others_are_not_waited_for() -> None:
    found = ordered(guest(1, metadata=meta(after="b")), guest(2, metadata=meta(after="c")), guest(3))

    assert (names(found.only([uuid_of(1), uuid_of(2)])), names(found.only([]))) == ("ba", "")
    assert found.only([uuid_of(1), uuid_of(2)]).after == {uuid_of(1): frozenset({uuid_of(2)})}


def test_a_long_chain_and_a_large_circle_are_read_without_recursion() -> None:
    count = 5000
    chain = [guest(n, metadata=meta(after=f"n{n + 1}"), display_name=f"n{n}") for n in range(1, count)]
    last = guest(count, display_name=f"n{count}")
    closed = guest(count, display_name=f"n{count}", metadata=meta(after="n1"))

    assert [each.instance.uuid for each in ordered(*chain, last).queue] == [uuid_of(n) for n in range(count, 0, -1)]
    assert ordered(*chain, closed).after == {}


PROJECTS = ("a", "b", "c")
STATES = st.sampled_from([None, None, TaskState.POWERING_OFF, TaskState.POWERING_ON])
METADATA = st.fixed_dictionaries(
    {},
    optional={
        "bringup:priority": st.integers(-120, 120).map(str),
        "bringup:after": st.lists(st.integers(1, 14).map(lambda n: chr(ord("a") + n - 1)), max_size=3).map(",".join),
        "bringup:ready": st.sampled_from(["agent", "quiet", "started", "?"]),
    },
)
HOSTS = st.lists(
    st.tuples(st.sampled_from(PROJECTS), STATES, st.none() | st.integers(-2, 2), METADATA), min_size=1, max_size=14
)


def taken(order: StartOrder, delay: int) -> list[str]:
    """Return the order in which all are taken; each that is taken is met ``delay`` turns later."""
    turns, found, pending = turns_of(order.queue, order.after), list[str](), list[str]()
    while turns:
        while pending and (len(pending) > delay or not turns.can_take):
            turns.met(pending.pop(0))
        one = turns.take(SLOTS)
        turns.left(one)
        found.append(one.instance.uuid)
        pending.append(one.instance.uuid)
    return found


@given(HOSTS, st.integers(0, 3))
def test_no_tenant_overtakes_another_by_metadata(
    host: list[tuple[str, Any, int | None, dict[str, str]]], delay: int
) -> None:
    """With the metadata of one project none of another project's instances is taken any later than without."""

    def order(*, with_metadata_of: str | None) -> StartOrder:
        return ordered(
            *(
                guest(
                    number,
                    project,
                    task_state=state,
                    specs=None if priority is None else meta(priority=priority),
                    metadata=metadata if project == with_metadata_of else {},
                )
                for number, (project, state, priority, metadata) in enumerate(host, start=1)
            )
        )

    without = order(with_metadata_of=None)
    before = {uuid: place for place, uuid in enumerate(taken(without, delay))}
    for project in PROJECTS:
        found = order(with_metadata_of=project)
        after = {uuid: place for place, uuid in enumerate(taken(found, delay))}

        assert sorted(after) == sorted(before)
        for facts in found.queue:
            uuid = facts.instance.uuid
            if facts.instance.project_id != project:
                assert after[uuid] <= before[uuid]
        # A place keeps its priority: nobody of a lower one waits for more guests than without.
        assert [found.priority.get(f.instance.uuid, 0) for f in found.queue] == [
            without.priority.get(f.instance.uuid, 0) for f in without.queue
        ]
        kept = [(at, f.instance.uuid) for at, f in enumerate(found.queue) if f.instance.project_id != project]
        assert kept == [(at, f.instance.uuid) for at, f in enumerate(without.queue) if f.instance.project_id != project]


@given(HOSTS, st.integers(0, 3))
def test_nothing_is_taken_before_what_it_waits_for_and_nothing_is_lost(
    host: list[tuple[str, Any, int | None, dict[str, str]]], delay: int
) -> None:
    policy = PacePolicy(instance_policy="decides")
    guests = [
        guest(number, project, task_state=state, metadata=metadata)
        for number, (project, state, _priority, metadata) in enumerate(host, start=1)
    ]
    found = ordered(*guests, policy=policy)
    sequence = taken(found, delay)

    assert sorted(sequence) == sorted(each.instance.uuid for each in guests)
    for uuid, others in found.after.items():
        assert all(sequence.index(each) < sequence.index(uuid) for each in others)
    assert found == ordered(*reversed(guests), policy=policy)
