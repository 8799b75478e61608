"""What was done to an instance: what is lost never counts as back, and what is not known is not guessed."""

from collections.abc import Callable
from contextlib import suppress
from itertools import product
from typing import Any, cast, get_args

import pytest

from bringup.daemon.decisions import actions
from bringup.daemon.decisions.actions import Action
from bringup.daemon.decisions.did import after_look, combined, did_by, did_of
from bringup.daemon.decisions.forecast import foresee, undisturbed
from bringup.daemon.decisions.outcomes import BACK, Did, Kind
from bringup.daemon.decisions.rules import Facts
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.errors import StateConflict, StoreError
from bringup.daemon.recovery.working_copy import WorkingCopy
from bringup.daemon.storage.store.base import Store
from bringup.drivers.base import DriverError, NotBegun, RebootType
from bringup.drivers.needs import NeedNotMet
from bringup.drivers.simulated import Fault, SimulatedNeed
from support.hosts import ELSEWHERE, HOST, arranged, evacuation, guest, instance, limits, outcome_of

LOOKS = (None, *PowerState)
LOST = (Did.SET_TO_ERROR, Did.DESTROYED, Did.DELETED)
CRASHED, NOSTATE, PAUSED, RUNNING, SHUTDOWN, SUSPENDED = (
    PowerState.CRASHED,
    PowerState.NOSTATE,
    PowerState.PAUSED,
    PowerState.RUNNING,
    PowerState.SHUTDOWN,
    PowerState.SUSPENDED,
)
OFF = (NOSTATE, SHUTDOWN, CRASHED)
Expected = Did | None | Callable[[PowerState | None], Did | None]
POWERED_OFF: Expected = lambda look: (  # noqa: E731 - a cell of the table
    Did.UNKNOWN if look is None else Did.POWERED_OFF if look in (RUNNING, PAUSED) else Did.STAYS_OFF
)
STARTED: Expected = lambda look: Did.LEFT_RUNNING if look is RUNNING else Did.STARTED  # noqa: E731 - a cell
RESUMED = {
    RUNNING: Did.LEFT_RUNNING,
    PAUSED: Did.LEFT_PAUSED,
    SUSPENDED: Did.STAYS_OFF,
    SHUTDOWN: Did.STARTED,
    CRASHED: Did.STARTED,
}
BY_ACTION: tuple[tuple[Action, Expected], ...] = (
    (actions.Save({"task_state": None}), None),
    (actions.Save({"vm_state": VmState.ACTIVE}), None),
    (actions.Save({"vm_state": VmState.ERROR}), Did.SET_TO_ERROR),
    (actions.SetError(), Did.SET_TO_ERROR),
    (actions.CompletePartialDeletion(), Did.DELETED),
    (actions.Delete(), Did.DELETED),
    (actions.DestroyGuest(), Did.DESTROYED),
    (actions.CleanupInterruptedSnapshot(), None),
    (actions.LookAtGuest(), None),
    (actions.Reboot(RebootType.SOFT), Did.REBOOTED),
    (actions.Reboot(RebootType.HARD), Did.REBOOTED),
    (actions.Unpause(), Did.UNPAUSED),
    (actions.Stop(), lambda look: Did.STAYS_OFF if look in OFF else Did.STOPPED),
    (actions.Start(), STARTED),
    (actions.PlugVifs(), None),
    (actions.RevertMigration(power_on=True), STARTED),
    (actions.RevertMigration(power_on=False), None),
    (actions.AbortLiveMigration(), None),
    (actions.SaveMigration("u", "error"), None),
    (actions.ResumeStateOnHostBoot(), lambda look: RESUMED.get(look, Did.UNKNOWN) if look else Did.UNKNOWN),
    (actions.EnsureFilteringRules(), None),
    (actions.Fence(), POWERED_OFF),
    (actions.FenceForeign(), POWERED_OFF),
    (actions.DestroyEvacuated(), Did.DESTROYED),
)


def test_each_action_has_its_row() -> None:
    assert {type(action) for action, _expected in BY_ACTION} == set(get_args(Action))


@pytest.mark.parametrize("look", LOOKS)
def test_an_action_does_what_its_row_says(look: PowerState | None) -> None:
    found = [(action, did_by(action, look)) for action, _expected in BY_ACTION]
    assert found == [(action, expected(look) if callable(expected) else expected) for action, expected in BY_ACTION]


def test_only_what_starts_a_guest_or_finds_it_running_has_it_back() -> None:
    for (action, _expected), look in product(BY_ACTION, LOOKS):
        if did_by(action, look) in BACK:
            assert isinstance(
                action,
                actions.Start
                | actions.Reboot
                | actions.Unpause
                | actions.ResumeStateOnHostBoot
                | actions.RevertMigration,
            )


@pytest.mark.parametrize("lost", LOST)
def test_nothing_that_follows_has_what_is_lost_count_as_back(lost: Did) -> None:
    """By induction over all that may follow: whatever is done next, or seen, the instance stays among the lost."""
    for now in (None, *Did):
        assert combined(lost, now) in LOST
    for look in PowerState:
        assert after_look(lost, look) is lost
    for kind, look, earlier in product(Kind, LOOKS, ((), ("reboot",), ("resume_state_on_host_boot",), ("start",))):
        assert did_of(lost, kind=kind, look=look, earlier=earlier) is lost


def test_what_is_not_known_is_known_again_only_after_a_look() -> None:
    for kind, look in product(Kind, LOOKS):
        assert did_of(Did.UNKNOWN, kind=kind, look=look) is Did.UNKNOWN
    for look in PowerState:
        assert after_look(Did.UNKNOWN, look) is None


def test_a_guest_that_is_seen_off_after_its_start_was_not_brought_back() -> None:
    for did, look in product(BACK, PowerState):
        assert after_look(did, look) is (did if look is RUNNING else None)


@pytest.mark.parametrize(
    ("look", "did"),
    [
        (None, Did.LEFT_ALONE),
        (RUNNING, Did.LEFT_RUNNING),
        (PAUSED, Did.LEFT_PAUSED),
        *((state, Did.STAYS_OFF) for state in (*OFF, SUSPENDED)),
    ],
)
def test_where_nothing_was_done_the_look_reports_how_it_was_left(look: PowerState | None, did: Did) -> None:
    assert did_of(None, kind=Kind.INITIALIZED, look=look) is did
    for kind in (Kind.SKIPPED, Kind.FAILED, Kind.SUPERSEDED):
        assert did_of(None, kind=kind, look=look) is Did.LEFT_ALONE
    assert did_of(None, kind=Kind.HELD, look=look) is Did.HELD
    assert did_of(None, kind=Kind.DEFERRED, look=look) is Did.DEFERRED


BEGUN = (DriverError("no"), StoreError("no"), TimeoutError(), KeyboardInterrupt())
NOT_BEGUN = (NotBegun("no"), NotImplementedError(), NeedNotMet("no", ()), StateConflict("no"))


@pytest.mark.parametrize("did", Did)
def test_a_call_that_fails_leaves_its_effect_unknown_unless_nothing_was_begun(did: Did) -> None:
    for before in (None, *Did):
        assert _after(before, did, None) is combined(before, did)
        assert {_after(before, did, error) for error in NOT_BEGUN} == {before}
        assert {_after(before, did, error) for error in BEGUN} == {before if before in LOST else Did.UNKNOWN}


def _after(before: Did | None, did: Did, error: BaseException | None) -> Did | None:
    record = WorkingCopy(instance(1), cast("Store", object()))
    record.did = before
    with suppress(BaseException), record.doing(did):
        if error is not None:
            raise error
    return record.did


STOPPED = {"vm_state": VmState.STOPPED, "power_state": SHUTDOWN}
DONE: dict[str, tuple[dict[str, Any], dict[str, Any], Kind, Did]] = {
    "ran": ({}, {}, Kind.INITIALIZED, Did.LEFT_RUNNING),
    "ran_before": ({}, {"power_state": SHUTDOWN}, Kind.INITIALIZED, Did.STARTED),
    "stopped": (STOPPED, {"power_state": SHUTDOWN}, Kind.INITIALIZED, Did.STAYS_OFF),
    "paused": (
        {"vm_state": VmState.PAUSED, "power_state": PAUSED},
        {"power_state": PAUSED},
        Kind.INITIALIZED,
        Did.LEFT_PAUSED,
    ),
    "to_be_started": ({"task_state": TaskState.POWERING_ON, **STOPPED}, {}, Kind.INITIALIZED, Did.LEFT_RUNNING),
    "to_be_started_and_off": (
        {"task_state": TaskState.POWERING_ON, **STOPPED},
        {"power_state": SHUTDOWN},
        Kind.INITIALIZED,
        Did.STARTED,
    ),
    "to_be_stopped": ({"task_state": TaskState.POWERING_OFF}, {}, Kind.INITIALIZED, Did.STOPPED),
    "to_be_stopped_and_off": (
        {"task_state": TaskState.POWERING_OFF},
        {"power_state": SHUTDOWN},
        Kind.INITIALIZED,
        Did.STAYS_OFF,
    ),
    "to_be_rebooted": ({"task_state": TaskState.REBOOT_PENDING}, {}, Kind.INITIALIZED, Did.REBOOTED),
    "to_be_unpaused": (
        {"task_state": TaskState.UNPAUSING, "vm_state": VmState.PAUSED, "power_state": PAUSED},
        {"power_state": PAUSED},
        Kind.INITIALIZED,
        Did.UNPAUSED,
    ),
    "to_be_deleted": ({"task_state": TaskState.DELETING}, {}, Kind.INITIALIZED, Did.DELETED),
    "half_deleted": ({"vm_state": VmState.DELETED}, {}, Kind.INITIALIZED, Did.DELETED),
    "being_built": ({"vm_state": VmState.BUILDING}, {}, Kind.INITIALIZED, Did.SET_TO_ERROR),
    "in_error": ({"vm_state": VmState.ERROR}, {}, Kind.SKIPPED, Did.LEFT_ALONE),
    "resized": (
        {"task_state": TaskState.RESIZE_MIGRATING},
        {"power_state": SHUTDOWN},
        Kind.INITIALIZED,
        Did.STARTED,
    ),
    "resized_and_stopped": (
        {"task_state": TaskState.RESIZE_MIGRATING, "system_metadata": {"old_vm_state": "stopped"}, **STOPPED},
        {"power_state": SHUTDOWN},
        Kind.INITIALIZED,
        Did.STAYS_OFF,
    ),
    "lacks_a_disk": (
        {"task_state": TaskState.POWERING_ON, **STOPPED},
        {"power_state": SHUTDOWN, "needs": (SimulatedNeed(name="/dev/sdb"),)},
        Kind.DEFERRED,
        Did.DEFERRED,
    ),
}


@pytest.mark.anyio
@pytest.mark.parametrize(("record", "at_hand", "kind", "did"), DONE.values(), ids=DONE)
async def test_a_run_reports_what_it_has_done_and_a_forecast_says_the_same_before(
    record: dict[str, Any], at_hand: dict[str, Any], kind: Kind, did: Did
) -> None:
    seen = guest(1, at_hand.get("power_state", RUNNING), needs=at_hand.get("needs", ()))
    async with arranged([instance(1, **record)], guests=[seen], resume_guests=True) as host:
        outcome = outcome_of(await host.run(), 1)

    assert (outcome.kind, outcome.did) == (kind, did)
    if not at_hand.get("needs"):
        facts = Facts(instance=instance(1, **record), host=HOST, resume_guests=True)
        assert undisturbed(foresee(facts, seen.power_state), seen.power_state).did is did


FAILED: dict[str, tuple[dict[str, Any], PowerState, Fault, Kind, Did]] = {
    "a_start": (
        {"task_state": TaskState.POWERING_ON, **STOPPED},
        SHUTDOWN,
        Fault(verb="power_on", error="DriverError"),
        Kind.FAILED,
        Did.UNKNOWN,
    ),
    "a_start_that_was_not_begun": (
        {"task_state": TaskState.POWERING_ON, **STOPPED},
        SHUTDOWN,
        Fault(verb="power_on", error="NotImplementedError"),
        Kind.FAILED,
        Did.LEFT_ALONE,
    ),
    "a_start_that_hangs": (
        {"task_state": TaskState.POWERING_ON, **STOPPED},
        SHUTDOWN,
        Fault(verb="power_on", hang=True),
        Kind.FAILED,
        Did.UNKNOWN,
    ),
    "bringing_it_back": (
        {},
        SHUTDOWN,
        Fault(verb="resume_state_on_host_boot", error="DriverError"),
        Kind.FAILED,
        Did.SET_TO_ERROR,
    ),
    "bringing_it_back_that_no_driver_can": (
        {},
        SHUTDOWN,
        Fault(verb="resume_state_on_host_boot", error="NotImplementedError"),
        Kind.INITIALIZED,
        Did.STAYS_OFF,
    ),
    "plugging": ({}, RUNNING, Fault(verb="plug_vifs", error="DriverError"), Kind.FAILED, Did.LEFT_ALONE),
    "plugging_a_nic": (
        {},
        RUNNING,
        Fault(verb="plug_vifs", error="VirtualInterfacePlugError"),
        Kind.FAILED,
        Did.SET_TO_ERROR,
    ),
    "a_reboot_that_leaves_it_running": (
        {"task_state": TaskState.REBOOT_PENDING},
        RUNNING,
        Fault(verb="reboot", error="DriverError"),
        Kind.INITIALIZED,
        Did.LEFT_RUNNING,
    ),
    "a_reboot_of_one_that_is_off": (
        {"task_state": TaskState.REBOOT_STARTED_HARD},
        SHUTDOWN,
        Fault(verb="reboot", error="DriverError"),
        Kind.FAILED,
        Did.SET_TO_ERROR,
    ),
    "a_deletion": (
        {"task_state": TaskState.DELETING},
        RUNNING,
        Fault(verb="destroy", error="DriverError"),
        Kind.FAILED,
        Did.SET_TO_ERROR,
    ),
    "a_deletion_that_hangs": (
        {"task_state": TaskState.DELETING},
        RUNNING,
        Fault(verb="destroy", hang=True),
        Kind.FAILED,
        Did.UNKNOWN,
    ),
}


@pytest.mark.anyio
@pytest.mark.parametrize(("record", "power", "fault", "kind", "did"), FAILED.values(), ids=FAILED)
async def test_what_a_failure_has_done_is_known_or_unknown_and_never_guessed(
    record: dict[str, Any], power: PowerState, fault: Fault, kind: Kind, did: Did
) -> None:
    quick = limits(instance_deadline=0.3) if fault.hang else limits()
    async with arranged([instance(1, **record)], guests=[guest(1, power)], limits=quick, resume_guests=True) as host:
        host.driver.inject(fault)
        outcome = outcome_of(await host.run(), 1)

    assert (outcome.kind, outcome.did) == (kind, did)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "power", "kind", "did"),
    [
        ("done", RUNNING, Kind.INITIALIZED, Did.DESTROYED),
        ("accepted", RUNNING, Kind.SKIPPED, Did.POWERED_OFF),
        ("accepted", SHUTDOWN, Kind.SKIPPED, Did.STAYS_OFF),
    ],
)
async def test_an_evacuated_guest_is_destroyed_or_powered_off(
    status: str, power: PowerState, kind: Kind, did: Did
) -> None:
    moved = instance(1, host=ELSEWHERE if status == "done" else HOST)
    async with arranged([moved], guests=[guest(1, power)], migrations=[evacuation(1, status)]) as host:
        outcome = outcome_of(await host.run(), 1)

    assert (outcome.kind, outcome.did) == (kind, did)


@pytest.mark.anyio
async def test_a_guest_that_was_destroyed_and_whose_record_could_not_be_written_counts_as_destroyed() -> None:
    async with arranged([instance(1, task_state=TaskState.DELETING)]) as host:
        host.trace.fail("store.save", StoreError("the disk is full"))
        outcome = outcome_of(await host.run(), 1)

    assert (outcome.kind, outcome.did) == (Kind.FAILED, Did.DESTROYED)
