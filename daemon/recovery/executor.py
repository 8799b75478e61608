"""Carries out one action on one instance.  It makes no choice: that is what the tables are for."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from bringup.daemon.decisions.actions import (
    AbortLiveMigration,
    Action,
    CleanupInterruptedSnapshot,
    CompletePartialDeletion,
    Delete,
    DestroyEvacuated,
    DestroyGuest,
    EnsureFilteringRules,
    Fence,
    FenceForeign,
    LookAtGuest,
    PlugVifs,
    Reboot,
    ResumeStateOnHostBoot,
    RevertMigration,
    Save,
    SaveMigration,
    SetError,
    Start,
    Stop,
    Unpause,
)
from bringup.daemon.decisions.policies import GuestShutdown
from bringup.daemon.decisions.states import PowerState
from bringup.daemon.recovery import operations
from bringup.daemon.recovery.evacuated_guests import DiskKeeper, Witness, destroy_evacuated, fence, fence_foreign
from bringup.daemon.recovery.start_claim import StartFence
from bringup.daemon.recovery.working_copy import Hand
from bringup.daemon.storage.store.base import Store
from bringup.drivers.base import Driver


@dataclass(frozen=True, slots=True, kw_only=True)
class Executor:
    """What an action is carried out with."""

    driver: Driver
    store: Store
    now: Callable[[], datetime]
    shutdown: GuestShutdown
    witness: Witness
    start_fence: StartFence
    """What stands between a decision and a guest that runs on two hosts."""
    disk_keeper: DiskKeeper | None = None
    """Sets disks of destroyed guests aside; None: they are deleted at once."""

    async def carry_out(  # noqa: C901, PLR0912 - one arm an action, proved complete
        self, hand: Hand, action: Action
    ) -> PowerState | None:
        """Do it.  A look gives what was seen, every other action None; whatever goes wrong is raised."""
        match action:
            case LookAtGuest():
                hand.saw(look := await operations.look(hand.instance, self.driver))
                return look
            case Save():
                hand.change(**action.changes)
                await hand.save(action.expected_task_states)
            case SetError():
                await operations.set_error(hand)
            case PlugVifs():
                await self.driver.plug_vifs(hand.instance)
            case EnsureFilteringRules():
                await self.driver.ensure_filtering_rules_for_instance(hand.instance)
            case ResumeStateOnHostBoot():
                await operations.resume(hand, self.driver, self.start_fence)
            case CleanupInterruptedSnapshot():
                await self.driver.post_interrupted_snapshot_cleanup(hand.instance)
            case RevertMigration():
                await operations.revert_migration(hand, self.driver, self.start_fence, power_on=action.power_on)
            case AbortLiveMigration():
                await self.driver.live_migration_abort(hand.instance)
            case SaveMigration():
                await self.store.save_migration(action.migration_uuid, status=action.status)
            case CompletePartialDeletion():
                await hand.destroy()
            case Delete():
                self.start_fence.check_lease()
                await operations.delete(hand, self.driver, self.now)
            case DestroyGuest():
                self.start_fence.check_lease()
                await operations.destroy_guest(hand, self.driver)
            case Reboot():
                await operations.reboot(hand, self.driver, action.reboot_type, self.start_fence)
            case Unpause():
                await operations.unpause(hand, self.driver, self.start_fence)
            case Stop():
                await operations.stop(hand, self.driver, self.shutdown)
            case Start():
                await operations.start(hand, self.driver, self.start_fence)
            case Fence():
                await fence(hand, self.driver)
            case FenceForeign():
                self.start_fence.check_lease()
                await fence_foreign(hand, self.driver, self.store)
            case DestroyEvacuated():
                self.start_fence.check_lease()
                await destroy_evacuated(hand, self.driver, self.store, self.witness, self.disk_keeper)
            case _:
                assert_never(action)
        return None
