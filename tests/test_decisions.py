import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bringup.daemon.decisions.actions import (
    Delete,
    DestroyEvacuated,
    PlugVifs,
    Save,
)
from bringup.daemon.decisions.from_evacuation import EVACUATED
from bringup.daemon.decisions.from_event import LIFECYCLE
from bringup.daemon.decisions.from_guest import FROM_FIRST_LOOK, FROM_SECOND_LOOK
from bringup.daemon.decisions.from_record import EVACUATION_STATUSES, FROM_RECORD
from bringup.daemon.decisions.instances import FROM_LIBVIRT, ORIGIN, Migration, UnreadableInstance
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.rules import Facts, Guard, Hold, Next, Rule, Withheld, always, decide
from bringup.daemon.decisions.states import PowerState, TaskState, UnknownState, VmState
from bringup.drivers.base import Transition
from support.decisions import ELSEWHERE, FACTS, HERE, INSTANCE, MIGRATION_UUID, actions, facts, migration, plan

CLEAR_TASK = Save({"task_state": None})
TABLES = {
    "FROM_RECORD": FROM_RECORD,
    "FROM_FIRST_LOOK": FROM_FIRST_LOOK,
    "FROM_SECOND_LOOK": FROM_SECOND_LOOK,
    "EVACUATED": EVACUATED,
    "LIFECYCLE": LIFECYCLE,
}
LEAVING = Migration(
    uuid=MIGRATION_UUID,
    instance_uuid=INSTANCE.uuid,
    migration_type="live-migration",
    status="running",
    source_compute=HERE,
    dest_compute=ELSEWHERE,
    updated_at=1.0,
)
VM_STATES = (*VmState, UnknownState("melted"))
TASK_STATES = (None, *TaskState, UnknownState("melting"))


def every_record() -> Iterator[Facts]:
    statuses = (None, *EVACUATION_STATUSES)
    for vm, task, host, status in itertools.product(VM_STATES, TASK_STATES, (HERE, ELSEWHERE), statuses):
        yield facts(vm, task, host=host, evacuation=status)


def every_look() -> Iterator[Facts]:
    for record in every_record():
        if record.evacuation is not None or decide(FROM_RECORD, record).ends:
            continue
        for look, old, live in itertools.product(PowerState, (None, "stopped", "active"), (None, "running")):
            instance = replace(record.instance, system_metadata={} if old is None else {"old_vm_state": old})
            case = replace(record, instance=instance, look=look, live_migration=migration("live-migration", live))
            yield case
            if live is None:
                yield replace(case, guest_gone=True)
            elif case.live_migration is not None:
                yield replace(case, guest_gone=True, moves=(case.live_migration,))
            yield replace(case, begun=frozenset({"reboot", "unpause"}))


def every_second_look() -> Iterator[Facts]:
    for before, look, resume in itertools.product((None, *PowerState, UnknownState(9)), PowerState, (False, True)):
        yield replace(FACTS, instance=replace(INSTANCE, power_state=before), look=look, resume_guests=resume)


def every_evacuation() -> Iterator[Facts]:
    for host, status in itertools.product((HERE, ELSEWHERE), EVACUATION_STATUSES):
        yield facts(host=host, evacuation=status)


def every_hold(record: Facts) -> Iterator[Facts]:
    for guard in Guard:
        yield replace(record, hold=Hold(guard, "so"))


def every_second_look_after_another_run() -> Iterator[Facts]:
    for case in every_second_look():
        yield case
        yield replace(case, done=frozenset({"resume_state_on_host_boot"}))
        if not case.resume_guests:
            yield from (replace(case, withheld=withheld) for withheld in Withheld)


UNREADABLE = UnreadableInstance(uuid=INSTANCE.uuid, host=HERE, vm_state=UnknownState("unreadable"), why="so")


def every_record_held_too() -> Iterator[Facts]:
    yield replace(FACTS, instance=UNREADABLE)
    for record in every_record():
        yield record
        for verb in ("reboot", "save"):
            yield replace(record, begun=frozenset({verb}))
        if record.instance.task_state in (None, TaskState.MIGRATING):
            yield replace(record, moves=(LEAVING,), booted_at=LEAVING.updated_at)
        yield from every_hold(record)
        yield replace(owing(record), owes_elsewhere=True)


def owing(record: Facts) -> Facts:
    return replace(record, instance=replace(record.instance, network_info=({"id": "a port"},)))


def every_evacuation_held_too() -> Iterator[Facts]:
    yield replace(facts(evacuation="done"), instance=UNREADABLE)
    for case in every_evacuation():
        yield case
        yield replace(case, guest_gone=True)
        yield from every_hold(case)


def every_event() -> Iterator[Facts]:
    tasks = (None, TaskState.DELETING)
    states = itertools.product(
        VM_STATES, tasks, PowerState, (HERE, ELSEWHERE), (None, PowerState.RUNNING), (False, True)
    )
    for (vm, task, look, host, before, terminate), event in itertools.product(states, Transition):
        instance = replace(facts(vm, task, host=host).instance, power_state=before, shutdown_terminate=terminate)
        yield replace(FACTS, instance=instance, look=look, transition=event)
        yield replace(owing(replace(FACTS, instance=instance)), look=look, transition=event, owes_elsewhere=True)
        away = migration("evacuation", "accepted")
        yield replace(FACTS, instance=instance, look=look, transition=event, evacuation=away)
        plain = replace(instance, system_metadata={ORIGIN: FROM_LIBVIRT})
        yield replace(FACTS, instance=plain, look=look, transition=event)


CASES = {
    "FROM_RECORD": every_record_held_too,
    "FROM_FIRST_LOOK": every_look,
    "FROM_SECOND_LOOK": every_second_look_after_another_run,
    "EVACUATED": every_evacuation_held_too,
    "LIFECYCLE": every_event,
}


@pytest.mark.no_cover
@pytest.mark.parametrize("name", TABLES)
def test_every_rule_is_reached(name: str) -> None:
    reached = {rule for case in CASES[name]() for rule in decide(TABLES[name], case).because}
    assert reached == {rule.name for rule in TABLES[name]}


@pytest.mark.parametrize("name", TABLES)
def test_no_two_rules_of_a_table_have_one_name(name: str) -> None:
    names = [rule.name for rule in TABLES[name]]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("name", TABLES)
def test_every_rule_reports_why_in_one_sentence(name: str) -> None:
    assert [rule.name for rule in TABLES[name] if not rule.why.endswith((".", ")."))] == []


@pytest.mark.no_cover
@pytest.mark.parametrize("name", ["FROM_SECOND_LOOK", "EVACUATED", "LIFECYCLE"])
def test_no_case_is_without_a_rule_that_ends_it(name: str) -> None:
    assert [case for case in CASES[name]() if not decide(TABLES[name], case).ends] == []


@pytest.mark.no_cover
def test_a_case_that_continues_to_the_first_look_has_its_vifs_plugged_or_is_ended() -> None:
    plans = [decide(FROM_FIRST_LOOK, case) for case in every_look()]
    assert [plan.because for plan in plans if plan.ends == ("vifs" in plan.because)] == []


def test_nothing_is_done_to_an_instance_of_another_host() -> None:
    foreign = [decide(FROM_RECORD, case) for case in every_record() if case.instance.host != HERE]
    assert set(foreign) == {plan(("not_ours", ()), kind=Kind.SKIPPED)}


@pytest.mark.parametrize("status", [status for status in EVACUATION_STATUSES if status != "done"])
def test_an_instance_whose_evacuation_runs_is_left_to_the_other_host(status: str) -> None:
    mine = [decide(FROM_RECORD, case) for case in every_record() if case.evacuation == migration("evacuation", status)]
    assert {(one.steps, one.ends, one.kind) for one in mine} == {((), True, Kind.SKIPPED)}


def test_nothing_is_done_on_a_state_that_is_not_known() -> None:
    unknown = [
        decide(FROM_RECORD, facts(vm, task))
        for vm, task in itertools.product(VM_STATES, TASK_STATES)
        if isinstance(vm, UnknownState) or isinstance(task, UnknownState)
    ]
    assert set(unknown) == {plan(("unknown_state", ()), kind=Kind.FAILED)}


def test_a_guest_is_destroyed_only_where_its_record_or_its_evacuation_reports_it() -> None:
    by_record = {case.instance.task_state for case in every_record() if Delete() in actions(FROM_RECORD, case)}
    by_evacuation = {
        (case.instance.host, case.evacuation)
        for case in every_evacuation()
        if DestroyEvacuated() in actions(EVACUATED, case)
    }
    assert by_record == {TaskState.DELETING}
    assert by_evacuation == {(ELSEWHERE, migration("evacuation", "done"))}


def test_a_rule_that_saves_changes_what_the_rules_after_it_see() -> None:
    table = (
        Rule("clears", lambda f: f.instance.task_state is TaskState.PAUSING, always(CLEAR_TASK), Next.CONTINUE, "."),
        Rule("sees", lambda f: f.instance.task_state is None, always(PlugVifs()), Next.END, "."),
    )
    assert decide(table, facts(task_state=TaskState.PAUSING)) == plan(("clears", [CLEAR_TASK]), ("sees", [PlugVifs()]))
