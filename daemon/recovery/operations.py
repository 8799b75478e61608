"""Nova's manager actions, step by step: reboot, start, stop, unpause, delete.

Each is one action to the tables and several steps to the record and the guest, in Nova's order, with the task states
that each save expects.  Which of them is due is decided in :mod:`bringup.daemon.decisions`, what a failure means in
:mod:`bringup.daemon.decisions.on_failure`; the steps that an operation takes when one of its own fails are part of it.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from bringup.daemon.decisions.actions import ResumeStateOnHostBoot, RevertMigration, Start, Stop
from bringup.daemon.decisions.did import OFF, did_by
from bringup.daemon.decisions.outcomes import Did
from bringup.daemon.decisions.policies import GuestShutdown
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.errors import NotOursToStart, RecordNotFound, StateConflict, StoreError, StoreUnavailable
from bringup.daemon.logs import get_logger
from bringup.daemon.recovery.guest_power import read_power_state
from bringup.daemon.recovery.start_claim import StartClaim
from bringup.daemon.recovery.working_copy import WorkingCopy
from bringup.drivers.base import Driver, RebootType
from bringup.drivers.needs import NeedNotMet

log = get_logger()

# Nova forgets these when a shelved instance runs again.
SHELVED_KEYS = ("shelved_at", "shelved_image_id", "shelved_host")


@asynccontextmanager
async def _task_state_reverted_on_failure(record: WorkingCopy) -> AsyncIterator[None]:
    """Clear the task state of a record whose operation failed, unless somebody else has taken it over.

    An unavailable store is no failure of the operation: the record stays as it is, and the next start continues.
    Nor is something that the guest needs and this host lacks: whoever asked for the operation puts the record back.
    """
    try:
        yield
    except (StateConflict, StoreUnavailable, NeedNotMet):
        raise
    except Exception:
        record.change(task_state=None)
        try:
            await record.save()
        except RecordNotFound:
            log.debug("instance.not_found")
        except StoreError as error:
            log.warning("instance.task_state_not_reverted", error=str(error))
        raise


async def set_error(record: WorkingCopy) -> None:
    """Set the record to ERROR, together with what an earlier save could not write."""
    record.change(vm_state=VmState.ERROR)
    await record.save()


@dataclass(frozen=True, slots=True)
class _RebootStates:
    pending: TaskState
    started: TaskState
    expected: tuple[TaskState | None, ...]


_REBOOT_STATES = {
    RebootType.SOFT: _RebootStates(
        TaskState.REBOOT_PENDING,
        TaskState.REBOOT_STARTED,
        (TaskState.REBOOTING, TaskState.REBOOT_PENDING, TaskState.REBOOT_STARTED),
    ),
    RebootType.HARD: _RebootStates(
        TaskState.REBOOT_PENDING_HARD,
        TaskState.REBOOT_STARTED_HARD,
        (TaskState.REBOOTING_HARD, TaskState.REBOOT_PENDING_HARD, TaskState.REBOOT_STARTED_HARD),
    ),
}


async def reboot(record: WorkingCopy, driver: Driver, reboot_type: RebootType, claim: StartClaim) -> None:
    """Restart the guest (Nova's ``reboot_instance``)."""
    states = _REBOOT_STATES[reboot_type]
    async with _task_state_reverted_on_failure(record):
        record.change(task_state=states.pending)
        record.change(power_state=await read_power_state(record.instance, driver))
        await record.save(states.expected)
        # A rescued instance stays in rescue.
        vm_state = VmState.RESCUED if record.instance.vm_state is VmState.RESCUED else VmState.ACTIVE
        try:
            record.change(task_state=states.started)
            await record.save((states.pending,))
            async with claim.holding(record):
                with record.doing(Did.REBOOTED):
                    await driver.reboot(record.instance, reboot_type)
        except (NotOursToStart, StoreUnavailable, NeedNotMet):
            raise
        except Exception as error:
            power_state = await read_power_state(record.instance, driver)
            if power_state is not PowerState.RUNNING:
                await _set_error_if_there(record)
                raise
            # The reboot failed and the guest runs: no reason to call it ERROR.
            record.saw(power_state)
            log.warning("instance.reboot_failed_but_running", error=str(error))
        else:
            power_state = await read_power_state(record.instance, driver)
        record.change(vm_state=vm_state, task_state=None, power_state=power_state)
        try:
            await record.save()
        except RecordNotFound:
            log.warning("instance.disappeared_during_reboot")


async def _set_error_if_there(record: WorkingCopy) -> None:
    try:
        await set_error(record)
    except RecordNotFound:
        log.debug("instance.not_found")


async def resume(record: WorkingCopy, driver: Driver, claim: StartClaim) -> None:
    """Bring a guest back that ran before the host went down (Nova's ``resume_state_on_host_boot``)."""
    async with claim.holding(record):
        with record.doing(did_by(ResumeStateOnHostBoot(), record.look)):
            await driver.resume_state_on_host_boot(record.instance)


async def revert_migration(record: WorkingCopy, driver: Driver, claim: StartClaim, *, power_on: bool) -> None:
    """Roll a resize or cold migration back (Nova's ``finish_revert_migration``)."""
    async with claim.holding(record, reverting=True):
        with record.doing(did_by(RevertMigration(power_on=power_on), record.look)):
            await driver.finish_revert_migration(record.instance, power_on=power_on)


async def unpause(record: WorkingCopy, driver: Driver, claim: StartClaim) -> None:
    """Resume a paused guest (Nova's ``unpause_instance``)."""
    async with _task_state_reverted_on_failure(record):
        async with claim.holding(record, unpausing=True):
            with record.doing(Did.UNPAUSED):
                await driver.unpause(record.instance)
        record.change(
            power_state=await read_power_state(record.instance, driver), vm_state=VmState.ACTIVE, task_state=None
        )
        await record.save((TaskState.UNPAUSING,))


async def stop(record: WorkingCopy, driver: Driver, shutdown: GuestShutdown) -> None:
    """Shut the guest down cleanly, then for sure (Nova's ``stop_instance``)."""
    async with _task_state_reverted_on_failure(record):
        expected: tuple[TaskState | None, ...] = (TaskState.POWERING_OFF,)
        seen = await read_power_state(record.instance, driver)
        if seen in OFF:
            expected = (TaskState.POWERING_OFF, None)
        with record.doing(did_by(Stop(), seen)):
            await driver.power_off(
                record.instance,
                timeout_s=_shutdown_timeout_s(record, shutdown),
                retry_interval_s=shutdown.shutdown_retry_interval,
            )
        record.change(
            power_state=await read_power_state(record.instance, driver), vm_state=VmState.STOPPED, task_state=None
        )
        await record.save(expected)


def _shutdown_timeout_s(record: WorkingCopy, shutdown: GuestShutdown) -> float:
    asked = record.instance.system_metadata.get("image_os_shutdown_timeout")
    if asked is None:
        return shutdown.shutdown_timeout
    try:
        return float(int(asked))
    except (ValueError, OverflowError):
        log.warning("instance.shutdown_timeout_unreadable", image_os_shutdown_timeout=asked)
        return shutdown.shutdown_timeout


async def start(record: WorkingCopy, driver: Driver, claim: StartClaim) -> None:
    """Power the guest on (Nova's ``start_instance``)."""
    async with _task_state_reverted_on_failure(record):
        async with claim.holding(record):
            with record.doing(did_by(Start(), record.look)):
                await driver.power_on(record.instance)
        record.change(
            power_state=await read_power_state(record.instance, driver), vm_state=VmState.ACTIVE, task_state=None
        )
        kept = {key: value for key, value in record.instance.system_metadata.items() if key not in SHELVED_KEYS}
        if len(kept) != len(record.instance.system_metadata):
            record.change(system_metadata=kept)
        await record.save((TaskState.POWERING_ON,))


async def destroy_guest(record: WorkingCopy, driver: Driver, *, destroy_disks: bool = True) -> None:
    """Destroy the guest, with its local disks or without; the record stays as it is."""
    with record.doing(Did.DESTROYED):
        await driver.destroy(record.instance, destroy_disks=destroy_disks)


async def delete(record: WorkingCopy, driver: Driver, now: Callable[[], datetime]) -> None:
    """Destroy the guest and its local disks, then delete the row (Nova's ``_delete_instance``)."""
    await destroy_guest(record, driver)
    record.change(
        vm_state=VmState.DELETED,
        task_state=None,
        power_state=PowerState.NOSTATE,
        terminated_at=now().isoformat(timespec="seconds"),
    )
    await record.save()
    await record.destroy()
