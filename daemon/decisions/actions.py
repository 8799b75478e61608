"""What can be done to one instance: small frozen values that a plan is made of.

An action says what, never how: :mod:`bringup.daemon.recovery.executor` carries it out.  No I/O, no clock, no logger.
"""

from dataclasses import dataclass
from typing import ClassVar, Final

from bringup.daemon.decisions.instances import Changes
from bringup.daemon.decisions.states import TaskState
from bringup.drivers.base import RebootType


@dataclass(frozen=True, slots=True)
class Save:
    """Write the record.

    Without ``expected_task_states`` the record must still be as it was last read or written.
    """

    verb: ClassVar[str] = "save"
    changes: Changes
    expected_task_states: tuple[TaskState | None, ...] | None = None


CLEAR_TASK: Final = Save({"task_state": None})


@dataclass(frozen=True, slots=True)
class SetError:
    """Set the record's ``vm_state`` to ERROR, together with what an earlier save could not write."""

    verb: ClassVar[str] = "set_error"


@dataclass(frozen=True, slots=True)
class CompletePartialDeletion:
    """Delete the row of an instance of which nothing else is left."""

    verb: ClassVar[str] = "complete_partial_deletion"


@dataclass(frozen=True, slots=True)
class Delete:
    """Destroy the guest with its local disks, then delete the row."""

    verb: ClassVar[str] = "delete"


@dataclass(frozen=True, slots=True)
class DestroyGuest:
    """Destroy the guest with its local disks; the row stays, for whoever finishes the deletion."""

    verb: ClassVar[str] = "destroy_guest"


@dataclass(frozen=True, slots=True)
class CleanupInterruptedSnapshot:
    """Remove what an interrupted snapshot left on the hypervisor."""

    verb: ClassVar[str] = "post_interrupted_snapshot_cleanup"


@dataclass(frozen=True, slots=True)
class LookAtGuest:
    """Read the power state of the guest; a guest that the hypervisor does not have is NOSTATE."""

    verb: ClassVar[str] = "get_info"


@dataclass(frozen=True, slots=True)
class Reboot:
    """Restart the guest, and keep the record true on the way."""

    verb: ClassVar[str] = "reboot"
    reboot_type: RebootType


@dataclass(frozen=True, slots=True)
class Unpause:
    """Resume a paused guest."""

    verb: ClassVar[str] = "unpause"


@dataclass(frozen=True, slots=True)
class Stop:
    """Shut the guest down; it is powered off after the timeout."""

    verb: ClassVar[str] = "stop"


@dataclass(frozen=True, slots=True)
class Start:
    """Power the guest on."""

    verb: ClassVar[str] = "start"


@dataclass(frozen=True, slots=True)
class PlugVifs:
    """Make the guest's NICs ready on this host."""

    verb: ClassVar[str] = "plug_vifs"


@dataclass(frozen=True, slots=True)
class RevertMigration:
    """Roll back a resize or cold migration that was cut short on its way out."""

    verb: ClassVar[str] = "finish_revert_migration"
    power_on: bool


@dataclass(frozen=True, slots=True)
class AbortLiveMigration:
    """Stop the live migration of a guest that is still on its way out."""

    verb: ClassVar[str] = "live_migration_abort"


@dataclass(frozen=True, slots=True)
class SaveMigration:
    """Write the status of a migration."""

    verb: ClassVar[str] = "save_migration"
    migration_uuid: str
    status: str


@dataclass(frozen=True, slots=True)
class ResumeStateOnHostBoot:
    """Bring a guest back that ran before the host went down."""

    verb: ClassVar[str] = "resume_state_on_host_boot"


@dataclass(frozen=True, slots=True)
class EnsureFilteringRules:
    """Put the firewall rules of a running guest in place."""

    verb: ClassVar[str] = "ensure_filtering_rules_for_instance"


@dataclass(frozen=True, slots=True)
class Fence:
    """Power off at once a guest that may run elsewhere at any moment; keep its definition and its disks."""

    verb: ClassVar[str] = "fence"


@dataclass(frozen=True, slots=True)
class FenceForeign:
    """Power off at once a guest that runs here although its record names another host; keep everything else."""

    verb: ClassVar[str] = "fence_foreign"


@dataclass(frozen=True, slots=True)
class DestroyEvacuated:
    """Destroy a guest that was evacuated to another host; its disks too, where no other host has them."""

    verb: ClassVar[str] = "destroy_evacuated"


Action = (
    Save
    | SetError
    | CompletePartialDeletion
    | Delete
    | DestroyGuest
    | CleanupInterruptedSnapshot
    | LookAtGuest
    | Reboot
    | Unpause
    | Stop
    | Start
    | PlugVifs
    | RevertMigration
    | AbortLiveMigration
    | SaveMigration
    | ResumeStateOnHostBoot
    | EnsureFilteringRules
    | Fence
    | FenceForeign
    | DestroyEvacuated
)
