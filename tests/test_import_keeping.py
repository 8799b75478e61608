"""An import of what libvirt's guests do now: what should run and does not yet is not forgotten."""

from dataclasses import replace

import pytest

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.storage.journal import NotBack
from bringup.daemon.storage.record_files.from_guests import SEEN_ON, keeping, records_of
from bringup.drivers.libvirt.domains import DefinedGuest
from support.drivers import uuid_of
from support.records import HOST

NOW, BEFORE = "boot-2", "boot-1"
UUID = uuid_of(1)
SETTLED = NotBack(settled=True)
OFF = (PowerState.SHUTDOWN, False)
SAVED = (PowerState.SHUTDOWN, True)
CRASHED = (PowerState.CRASHED, False)


def guest(state: PowerState, *, saved: bool) -> DefinedGuest:
    return DefinedGuest(UUID, "one", state, saved=saved)


def imported(
    known: Instance | None, pending: NotBack, state: PowerState, *, saved: bool = False
) -> tuple[Instance, int]:
    found = records_of([guest(state, saved=saved)], HOST, NOW)
    records, kept = keeping(found, {} if known is None else {UUID: known}, pending, NOW)
    [record] = records.instances
    return record, kept


def ran(boot_id: str = BEFORE) -> Instance:
    [record] = records_of([guest(PowerState.RUNNING, saved=False)], HOST, boot_id).instances
    return record


def but(record: Instance, **columns: object) -> Instance:
    return replace(record, **columns)  # type: ignore[arg-type]


@pytest.mark.parametrize(("state", "saved"), [OFF, SAVED, CRASHED], ids=["off", "saved", "crashed"])
@pytest.mark.parametrize(
    "pending",
    [NotBack(), NotBack(settled=True, not_back=frozenset({UUID})), NotBack(not_back=frozenset({UUID}))],
    ids=["no run has ended", "not back", "neither"],
)
def test_what_ran_before_the_boot_and_is_not_back_stays_to_be_started(
    state: PowerState, pending: NotBack, *, saved: bool
) -> None:
    assert imported(ran(), pending, state, saved=saved) == (ran(), 1)


@pytest.mark.parametrize(("state", "saved"), [OFF, SAVED], ids=["off", "saved"])
def test_what_was_brought_back_and_is_off_was_stopped_by_somebody(state: PowerState, *, saved: bool) -> None:
    record, kept = imported(ran(), SETTLED, state, saved=saved)

    assert (record.vm_state, kept) == (VmState.SUSPENDED if saved else VmState.STOPPED, 0)


@pytest.mark.parametrize(
    "pending", [NotBack(), NotBack(settled=True, not_back=frozenset({UUID}))], ids=["no run", "not back"]
)
def test_one_that_was_seen_to_run_on_this_boot_was_stopped_by_somebody_whatever_the_journal_says(
    pending: NotBack,
) -> None:
    record, kept = imported(ran(NOW), pending, PowerState.SHUTDOWN)

    assert (record.vm_state, kept) == (VmState.STOPPED, 0)


def test_a_start_that_failed_is_to_be_tried_again_at_the_next_boot() -> None:
    failed = but(ran(), vm_state=VmState.ERROR, power_state=PowerState.SHUTDOWN)

    record, kept = imported(failed, NotBack(settled=True, failed_starts=frozenset({UUID})), PowerState.SHUTDOWN)

    assert (record.vm_state, record.power_state, kept) == (VmState.ACTIVE, PowerState.RUNNING, 1)


def test_another_error_is_left_to_an_operator() -> None:
    error = but(ran(), vm_state=VmState.ERROR)

    assert imported(error, SETTLED, PowerState.SHUTDOWN) == (error, 1)


def test_a_task_that_was_cut_short_is_finished_first() -> None:
    cut_short = but(ran(NOW), vm_state=VmState.STOPPED, task_state=TaskState.POWERING_ON)

    assert imported(cut_short, NotBack(), PowerState.SHUTDOWN) == (cut_short, 1)


@pytest.mark.parametrize("known", [None, ran(), but(ran(), vm_state=VmState.ERROR)], ids=["new", "ran", "failed"])
def test_one_that_runs_is_one_that_should_run(known: Instance | None) -> None:
    record, kept = imported(known, NotBack(failed_starts=frozenset({UUID})), PowerState.RUNNING)

    assert (record.vm_state, record.system_metadata[SEEN_ON], kept) == (VmState.ACTIVE, NOW, 0)


def test_one_that_was_stopped_stays_stopped() -> None:
    record, kept = imported(but(ran(), vm_state=VmState.STOPPED), NotBack(), PowerState.SHUTDOWN)

    assert (record.vm_state, kept) == (VmState.STOPPED, 0)


def test_a_record_of_another_host_proves_nothing_of_this_guest() -> None:
    record, _kept = imported(but(ran(), host="elsewhere"), NotBack(), PowerState.SHUTDOWN)

    assert (record.host, record.vm_state) == (HOST, VmState.STOPPED)
