"""Nova's manager actions, step by step: reboot, start, stop, unpause, delete.

Each is one action to the tables and several steps to the record and the guest, in Nova's order, with the task states
that each save expects.  Which of them is due is decided in :mod:`bringup.daemon.decisions`, what a failure means in
:mod:`bringup.daemon.decisions.on_failure`; the steps that an operation takes when one of its own fails are part of it.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from bringup.daemon.decisions.actions import ResumeStateOnHostBoot, RevertMigration, Start, Stop
from bringup.daemon.decisions.did import OFF, did_by
from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import Did
from bringup.daemon.decisions.policies import GuestShutdown
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.errors import NotOursToStart, RecordNotFound, StateConflict, StoreError, StoreUnavailable
from bringup.daemon.logs import get_logger
from bringup.daemon.recovery.working_copy import Hand
from bringup.drivers.base import Driver, InstanceNotFound, RebootType
from bringup.drivers.needs import NeedNotMet

log = get_logger()

# Nova forgets these when a shelved instance runs again.
SHELVED_KEYS = ("shelved_at", "shelved_image_id", "shelved_host")


async def look(instance: Instance, driver: Driver) -> PowerState:
    """Ask for the guest's power state; a guest that the hypervisor does not have is NOSTATE, as in Nova."""
    try:
        info = await driver.get_info(instance)
    except InstanceNotFound:
        return PowerState.NOSTATE
    return info.state


@asynccontextmanager
async def _task_state_reverted_on_failure(hand: Hand) -> AsyncIterator[None]:
    """Clear the task state of a record whose operation failed, unless somebody else has taken it over.

    A store that is away is no failure of the operation: the record stays as it is, for the next start to go on from.
    Nor is something that the guest needs and this host lacks: whoever asked for the operation puts the record back.
    """
    try:
        yield
    except (StateConflict, StoreUnavailable, NeedNotMet):
        raise
    except Exception:
        hand.change(task_state=None)
        try:
            await hand.save()
        except RecordNotFound:
            log.debug("instance.gone")
        except StoreError as error:
            log.warning("instance.task_state_not_reverted", error=str(error))
        raise


async def set_error(hand: Hand) -> None:
    """Set the record to ERROR, together with what an earlier save could not write."""
    hand.change(vm_state=VmState.ERROR)
    await hand.save()


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


class StartFence(Protocol):
    """Who lets a guest be started only while it is surely this host's (:mod:`bringup.daemon.recovery.start_claim`)."""

    def holding(
        self, hand: Hand, *, reverting: bool = False, going_on: bool = False
    ) -> AbstractAsyncContextManager[None]:
        """Hold the claim on an instance for as long as the block lasts."""


async def reboot(hand: Hand, driver: Driver, reboot_type: RebootType, fence: StartFence) -> None:
    """Restart the guest (Nova's ``reboot_instance``)."""
    states = _REBOOT_STATES[reboot_type]
    async with _task_state_reverted_on_failure(hand):
        hand.change(task_state=states.pending)
        hand.change(power_state=await look(hand.instance, driver))
        await hand.save(states.expected)
        # A rescued instance stays in rescue.
        vm_state = VmState.RESCUED if hand.instance.vm_state is VmState.RESCUED else VmState.ACTIVE
        try:
            hand.change(task_state=states.started)
            await hand.save((states.pending,))
            async with fence.holding(hand):
                with hand.doing(Did.REBOOTED):
                    await driver.reboot(hand.instance, reboot_type)
        except (NotOursToStart, StoreUnavailable, NeedNotMet):
            raise
        except Exception as error:
            power_state = await look(hand.instance, driver)
            if power_state is not PowerState.RUNNING:
                await _set_error_if_there(hand)
                raise
            # The reboot failed and the guest runs: no reason to call it ERROR.
            hand.saw(power_state)
            log.warning("instance.reboot_failed_but_running", error=str(error))
        else:
            power_state = await look(hand.instance, driver)
        hand.change(vm_state=vm_state, task_state=None, power_state=power_state)
        try:
            await hand.save()
        except RecordNotFound:
            log.warning("instance.disappeared_during_reboot")


async def _set_error_if_there(hand: Hand) -> None:
    try:
        await set_error(hand)
    except RecordNotFound:
        log.debug("instance.gone")


async def resume(hand: Hand, driver: Driver, fence: StartFence) -> None:
    """Bring a guest back that ran before the host went down (Nova's ``resume_state_on_host_boot``)."""
    async with fence.holding(hand):
        with hand.doing(did_by(ResumeStateOnHostBoot(), hand.look)):
            await driver.resume_state_on_host_boot(hand.instance)


async def revert_migration(hand: Hand, driver: Driver, fence: StartFence, *, power_on: bool) -> None:
    """Roll a resize or cold migration back (Nova's ``finish_revert_migration``)."""
    async with fence.holding(hand, reverting=True):
        with hand.doing(did_by(RevertMigration(power_on=power_on), hand.look)):
            await driver.finish_revert_migration(hand.instance, power_on=power_on)


async def unpause(hand: Hand, driver: Driver, fence: StartFence) -> None:
    """Let the guest go on (Nova's ``unpause_instance``)."""
    async with _task_state_reverted_on_failure(hand):
        async with fence.holding(hand, going_on=True):
            with hand.doing(Did.UNPAUSED):
                await driver.unpause(hand.instance)
        hand.change(power_state=await look(hand.instance, driver), vm_state=VmState.ACTIVE, task_state=None)
        await hand.save((TaskState.UNPAUSING,))


async def stop(hand: Hand, driver: Driver, shutdown: GuestShutdown) -> None:
    """Shut the guest down cleanly, then for sure (Nova's ``stop_instance``)."""
    async with _task_state_reverted_on_failure(hand):
        expected: tuple[TaskState | None, ...] = (TaskState.POWERING_OFF,)
        seen = await look(hand.instance, driver)
        if seen in OFF:
            expected = (TaskState.POWERING_OFF, None)
        with hand.doing(did_by(Stop(), seen)):
            await driver.power_off(
                hand.instance,
                timeout_s=_shutdown_timeout_s(hand, shutdown),
                retry_interval_s=shutdown.shutdown_retry_interval,
            )
        hand.change(power_state=await look(hand.instance, driver), vm_state=VmState.STOPPED, task_state=None)
        await hand.save(expected)


def _shutdown_timeout_s(hand: Hand, shutdown: GuestShutdown) -> float:
    asked = hand.instance.system_metadata.get("image_os_shutdown_timeout")
    if asked is None:
        return shutdown.shutdown_timeout
    try:
        return float(int(asked))
    except (ValueError, OverflowError):
        log.warning("instance.shutdown_timeout_unreadable", image_os_shutdown_timeout=asked)
        return shutdown.shutdown_timeout


async def start(hand: Hand, driver: Driver, fence: StartFence) -> None:
    """Power the guest on (Nova's ``start_instance``)."""
    async with _task_state_reverted_on_failure(hand):
        async with fence.holding(hand):
            with hand.doing(did_by(Start(), hand.look)):
                await driver.power_on(hand.instance)
        hand.change(power_state=await look(hand.instance, driver), vm_state=VmState.ACTIVE, task_state=None)
        kept = {key: value for key, value in hand.instance.system_metadata.items() if key not in SHELVED_KEYS}
        if len(kept) != len(hand.instance.system_metadata):
            hand.change(system_metadata=kept)
        await hand.save((TaskState.POWERING_ON,))


async def destroy_guest(hand: Hand, driver: Driver, *, destroy_disks: bool = True) -> None:
    """Destroy the guest, with its local disks or without; the record stays as it is."""
    with hand.doing(Did.DESTROYED):
        await driver.destroy(hand.instance, destroy_disks=destroy_disks)


async def delete(hand: Hand, driver: Driver, now: Callable[[], datetime]) -> None:
    """Destroy the guest and its local disks, then delete the row (Nova's ``_delete_instance``)."""
    await destroy_guest(hand, driver)
    hand.change(
        vm_state=VmState.DELETED,
        task_state=None,
        power_state=PowerState.NOSTATE,
        terminated_at=now().isoformat(timespec="seconds"),
    )
    await hand.save()
    await hand.destroy()
