"""One instance: its outcome says what was done, why, what went wrong, and how the record was left."""

import errno
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest

from bringup.daemon.decisions.actions import PlugVifs
from bringup.daemon.decisions.instances import Changes, Expected
from bringup.daemon.decisions.outcomes import Kind, Outcome
from bringup.daemon.decisions.rules import Facts, Next, Rule
from bringup.daemon.decisions.states import PowerState, TaskState, UnknownState, VmState
from bringup.daemon.errors import RecordNotFound, StoreError
from bringup.daemon.recovery.init_instance import init_instance, problem_of
from bringup.daemon.storage.store.base import Store
from bringup.drivers.base import DriverError, PciDeviceNotFound, VirtualInterfacePlugError
from bringup.drivers.simulated import Fault
from support.drivers import uuid_of
from support.hosts import HOST, ArrangedHost, arranged, instance, outcome_of


def caused(error: Exception, *, by: Exception) -> Exception:
    """Make an error as ``raise error from by`` does."""
    error.__cause__ = by
    return error


@pytest.mark.anyio
async def test_how_a_deadline_is_carried_out_is_nobodys_business() -> None:
    with pytest.raises(TimeoutError) as raised, anyio.fail_after(0):
        await anyio.sleep_forever()

    problem = problem_of("plug_vifs", caused(DriverError("cannot ask the switch"), by=raised.value))

    assert problem.message == "cannot ask the switch: it was not over in time"


def test_a_problem_keeps_the_whole_chain_of_causes() -> None:
    disk = OSError(errno.ENOSPC, "No space left on device")
    problem = problem_of("save", caused(DriverError("cannot stop"), by=caused(StoreError("cannot save 1"), by=disk)))

    assert (problem.action, problem.error) == ("save", "DriverError")
    assert problem.message == "cannot stop: cannot save 1: [Errno 28] No space left on device"


@pytest.mark.parametrize(
    ("hidden", "message"), [(False, "cannot log in: a secret"), (True, "cannot log in")], ids=["shown", "hidden"]
)
def test_what_was_being_handled_is_kept_unless_it_was_hidden_on_purpose(*, hidden: bool, message: str) -> None:
    error = DriverError("cannot log in")
    error.__context__ = ValueError("a secret")
    error.__suppress_context__ = hidden

    assert problem_of("init_host", error).message == message


def test_an_error_without_words_is_named_and_one_said_twice_is_reported_once() -> None:
    again = caused(DriverError("cannot stop"), by=caused(DriverError("cannot stop"), by=TimeoutError()))

    assert problem_of("stop", again).message == "cannot stop: it was not over in time"


def test_an_error_that_is_its_own_cause_comes_to_an_end() -> None:
    one, other = DriverError("one"), DriverError("other")
    one.__cause__, other.__cause__ = other, one

    assert problem_of("stop", one).message == "one: other"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("states", "said"),
    [
        ({"vm_state": UnknownState("levitating")}, "vm_state levitating, task_state none"),
        ({"task_state": UnknownState("teleporting")}, "vm_state active, task_state teleporting"),
    ],
    ids=["vm_state", "task_state"],
)
async def test_an_unknown_state_is_a_failure_that_names_which(states: dict[str, UnknownState], said: str) -> None:
    record = instance(1, **states)
    async with arranged([record]) as host:
        result = await host.run()

        outcome = outcome_of(result, 1)
        assert outcome.kind is Kind.FAILED
        assert outcome.problem is not None
        assert outcome.problem.error == "UnknownState"
        assert said in outcome.problem.message
        assert uuid_of(1) in outcome.problem.message
        assert host.trace.names(uuid_of(1)) == []
        assert await host.record(1) == record


@pytest.mark.anyio
async def test_an_unknown_power_state_in_a_record_is_no_reason_to_stop() -> None:
    async with arranged([instance(1, power_state=UnknownState(9))], guests=[], resume_guests=True) as host:
        result = await host.run()

        assert outcome_of(result, 1).kind is Kind.INITIALIZED
        assert "driver.resume_state_on_host_boot" not in host.trace.names()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "task_state",
    [
        TaskState.RESIZE_PREP,
        TaskState.POWERING_OFF,
        TaskState.POWERING_ON,
        TaskState.REBOOTING_HARD,
        TaskState.DELETING,
    ],
    ids=lambda state: state.value,
)
async def test_a_record_that_was_changed_meanwhile_is_superseded_and_keeps_that_change(task_state: TaskState) -> None:
    off = PowerState.SHUTDOWN if task_state is TaskState.POWERING_ON else PowerState.RUNNING
    async with arranged([instance(1, task_state=task_state, power_state=off)]) as host:
        somebody = instance(1, task_state=TaskState.MIGRATING, power_state=off)

        async def change_it() -> None:
            expected = Expected((VmState.ACTIVE,), (task_state,))
            await host.store.save(uuid_of(1), {"task_state": TaskState.MIGRATING}, expected=expected)

        outcome = await _run_after_loading(host, change_it)

        assert outcome.kind is Kind.SUPERSEDED
        assert outcome.problem is not None
        starts = task_state in (TaskState.POWERING_ON, TaskState.REBOOTING_HARD)
        assert outcome.problem.error in ({"StateConflict", "NotOursToStart"} if starts else {"StateConflict"})
        assert "migrating" in outcome.problem.message
        assert await host.record(1) == somebody


@pytest.mark.anyio
async def test_a_record_that_was_deleted_meanwhile_stays_deleted() -> None:
    async with arranged([instance(1, task_state=TaskState.RESIZE_PREP)]) as host:
        outcome = await _run_after_loading(host, lambda: host.store.destroy(uuid_of(1)))

        assert outcome.kind is Kind.FAILED
        assert outcome.problem is not None
        assert outcome.problem.error == "RecordNotFound"
        assert await host.record(1) is None


async def _run_after_loading(host: ArrangedHost, change: Callable[[], Awaitable[None]]) -> Outcome:
    """Run one instance on a record that was loaded before ``change`` was made by somebody else."""
    facts = Facts(instance=await host.store.get_instance(uuid_of(1)), host=HOST)
    await host.driver.init_host(HOST)
    await change()
    return await init_instance(facts, executor=host.host.executor, observer=host.progress.observe, deadline_s=30)


@pytest.mark.anyio
async def test_a_record_that_cannot_even_be_set_to_error_tells_both_failures() -> None:
    async with arranged([instance(1)]) as host:
        host.trace.fail("driver.plug_vifs", VirtualInterfacePlugError("no bridge"))
        host.trace.fail("store.save", StoreError("the disk is full"))
        result = await host.run()

        outcome = outcome_of(result, 1)
        assert outcome.kind is Kind.FAILED
        assert outcome.problem is not None
        assert (outcome.problem.action, outcome.problem.message) == ("set_error", "the disk is full")
        assert [(warning.action, warning.message) for warning in outcome.warnings] == [("plug_vifs", "no bridge")]
        assert outcome.instance == await host.record(1) == instance(1)


@pytest.mark.anyio
async def test_an_instance_that_is_deleted_while_it_is_set_to_error_needs_no_word_on_that() -> None:
    async with arranged([instance(1)]) as host:
        host.trace.fail("driver.plug_vifs", VirtualInterfacePlugError("no bridge"))
        host.trace.fail("store.save", RecordNotFound("gone"))
        result = await host.run()

        problem = outcome_of(result, 1).problem
        assert problem is not None
        assert (problem.action, problem.error) == ("plug_vifs", "VirtualInterfacePlugError")


@pytest.mark.anyio
async def test_a_pci_device_that_is_gone_fails_the_instance_and_leaves_its_record() -> None:
    async with arranged([instance(1)]) as host:
        host.trace.fail("driver.plug_vifs", PciDeviceNotFound("0000:05:00.1"))
        result = await host.run()

        assert outcome_of(result, 1).kind is Kind.FAILED
        assert await host.record(1) == instance(1)


@pytest.mark.anyio
async def test_what_went_wrong_and_did_not_stop_it_is_a_warning() -> None:
    async with arranged([instance(1, task_state=TaskState.IMAGE_SNAPSHOT)]) as host:
        host.driver.inject(Fault(verb="post_interrupted_snapshot_cleanup", error="DriverError", message="locked"))
        result = await host.run()

        outcome = outcome_of(result, 1)
        assert (outcome.kind, outcome.problem) == (Kind.INITIALIZED, None)
        assert [(w.action, w.error, w.message) for w in outcome.warnings] == [
            ("post_interrupted_snapshot_cleanup", "DriverError", "locked")
        ]
        assert outcome.because == ("snapshot_interrupted", "vifs", "runs")
        assert host.progress.warnings == 1


@pytest.mark.anyio
async def test_what_a_driver_cannot_do_is_not_worth_a_word() -> None:
    async with arranged([instance(1)]) as host:
        for verb in ("plug_vifs", "ensure_filtering_rules_for_instance"):
            host.driver.inject(Fault(verb=verb, error="NotImplementedError"))
        result = await host.run()

        outcome = outcome_of(result, 1)
        assert (outcome.kind, outcome.problem, outcome.warnings) == (Kind.INITIALIZED, None, ())


@pytest.mark.anyio
async def test_the_slowest_action_is_reported() -> None:
    async with arranged([instance(1)], latency={"plug_vifs": 0.05}) as host:
        result = await host.run()

        outcome = outcome_of(result, 1)
        assert outcome.slowest is not None
        assert outcome.slowest[0] == "plug_vifs"
        assert 0.05 <= outcome.slowest[1] <= outcome.took_s


class AnswersNobody:
    """A store whose saves are done, and whose answer to them never comes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def save(self, uuid: str, changes: Changes, *, expected: Expected) -> None:
        await self._store.save(uuid, changes, expected=expected)
        await anyio.sleep_forever()

    async def destroy(self, uuid: str) -> None:
        await self._store.destroy(uuid)
        await anyio.sleep_forever()


@pytest.mark.anyio
async def test_a_save_that_was_done_as_the_time_was_up_is_in_the_outcome() -> None:
    record = instance(1, task_state=TaskState.SPAWNING)
    async with arranged([record]) as host:
        executor = replace(host.host.executor, store=AnswersNobody(host.host.executor.store))
        facts = Facts(instance=record, host=HOST)

        outcome = await init_instance(facts, executor=executor, observer=host.progress.observe, deadline_s=0.2)

        assert outcome.problem is not None
        assert outcome.problem.error == "DeadlineExceeded"
        assert outcome.instance == await host.record(1) == replace(record, vm_state=VmState.ERROR, task_state=None)


@pytest.mark.anyio
async def test_a_row_that_was_deleted_as_the_time_was_up_is_reported_as_deleted() -> None:
    record = instance(1, vm_state=VmState.DELETED)
    async with arranged([record]) as host:
        executor = replace(host.host.executor, store=AnswersNobody(host.host.executor.store))
        facts = Facts(instance=record, host=HOST)

        outcome = await init_instance(facts, executor=executor, observer=host.progress.observe, deadline_s=0.2)

        assert (outcome.deleted, outcome.instance) == (True, None)


@pytest.mark.anyio
async def test_a_deadline_that_passes_leaves_the_record_as_it_was_last_written() -> None:
    record = instance(1, task_state=TaskState.REBOOT_STARTED_HARD, power_state=PowerState.SHUTDOWN)
    async with arranged([record]) as host:
        host.driver.inject(Fault(verb="reboot", hang=True))
        await host.driver.init_host(HOST)
        facts = Facts(instance=record, host=HOST)
        outcome = await init_instance(
            facts, executor=host.host.executor, observer=host.progress.observe, deadline_s=0.2
        )

        assert outcome.kind is Kind.FAILED
        assert outcome.problem is not None
        assert (outcome.problem.action, outcome.problem.error) == ("reboot", "DeadlineExceeded")
        assert outcome.problem.message == f"cannot finish reboot of {uuid_of(1)} in 0.2 s"
        left = instance(1, task_state=TaskState.REBOOT_STARTED_HARD, power_state=PowerState.SHUTDOWN)
        assert outcome.instance == await host.record(1) == left


def _stumble(_facts: Facts) -> bool:
    raise KeyError("a key that was always there")


@pytest.mark.anyio
async def test_a_rule_that_stumbles_over_a_record_is_the_outcome_of_that_instance() -> None:
    stumbling = Rule("stumbles", _stumble, lambda _facts: (PlugVifs(),), Next.END, "")
    async with arranged([instance(1)]) as host:
        facts = Facts(instance=instance(1), host=HOST)
        outcome = await init_instance(
            facts, executor=host.host.executor, observer=host.progress.observe, deadline_s=30, tables=((stumbling,),)
        )

        assert outcome.kind is Kind.FAILED
        assert outcome.problem is not None
        assert (outcome.problem.action, outcome.problem.error) == ("decide", "KeyError")


@pytest.mark.anyio
async def test_cancellation_is_passed_on() -> None:
    async with arranged([instance(1)]) as host:
        host.driver.inject(Fault(verb="get_info", hang=True))
        await host.driver.init_host(HOST)
        facts = Facts(instance=instance(1), host=HOST)
        with anyio.move_on_after(0.1) as scope:
            await init_instance(facts, executor=host.host.executor, observer=host.progress.observe, deadline_s=30)

        assert scope.cancelled_caught
