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
from bringup.daemon.recovery.evacuated_guests import DiskKeeper, Witness, destroy_evacuated, power_off_foreign
from bringup.daemon.recovery.guest_power import power_off_now, read_power_state
from bringup.daemon.recovery.start_claim import StartClaim
from bringup.daemon.recovery.working_copy import WorkingCopy
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
    start_claim: StartClaim
    """What stands between a decision and a guest that runs on two hosts."""
    disk_keeper: DiskKeeper | None = None
    """Sets disks of destroyed guests aside; None: they are deleted at once."""

    async def carry_out(  # noqa: C901, PLR0912 - one arm an action, proved complete
        self, record: WorkingCopy, action: Action
    ) -> PowerState | None:
        """Do it.  A look gives what was seen, every other action None; whatever goes wrong is raised."""
        match action:
            case LookAtGuest():
                record.saw(look := await read_power_state(record.instance, self.driver))
                return look
            case Save():
                record.change(**action.changes)
                await record.save(action.expected_task_states)
            case SetError():
                await operations.set_error(record)
            case PlugVifs():
                await self.driver.plug_vifs(record.instance)
            case EnsureFilteringRules():
                await self.driver.ensure_filtering_rules_for_instance(record.instance)
            case ResumeStateOnHostBoot():
                await operations.resume(record, self.driver, self.start_claim)
            case CleanupInterruptedSnapshot():
                await self.driver.post_interrupted_snapshot_cleanup(record.instance)
            case RevertMigration():
                await operations.revert_migration(record, self.driver, self.start_claim, power_on=action.power_on)
            case AbortLiveMigration():
                await self.driver.live_migration_abort(record.instance)
            case SaveMigration():
                await self.store.save_migration(action.migration_uuid, status=action.status)
            case CompletePartialDeletion():
                await record.destroy()
            case Delete():
                self.start_claim.check_lease()
                await operations.delete(record, self.driver, self.now)
            case DestroyGuest():
                self.start_claim.check_lease()
                await operations.destroy_guest(record, self.driver)
            case Reboot():
                await operations.reboot(record, self.driver, action.reboot_type, self.start_claim)
            case Unpause():
                await operations.unpause(record, self.driver, self.start_claim)
            case Stop():
                await operations.stop(record, self.driver, self.shutdown)
            case Start():
                await operations.start(record, self.driver, self.start_claim)
            case Fence():
                await power_off_now(record, self.driver)
            case FenceForeign():
                self.start_claim.check_lease()
                await power_off_foreign(record, self.driver, self.store)
            case DestroyEvacuated():
                self.start_claim.check_lease()
                await destroy_evacuated(record, self.driver, self.store, self.witness, self.disk_keeper)
            case _:
                assert_never(action)
        return None
