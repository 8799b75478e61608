"""What can be done to one instance: small frozen values that a plan is made of.

An action says what, never how: :mod:`bringup.daemon.recovery.executor` carries it out.  No I/O, no clock, no logger.
"""

from dataclasses import dataclass
from typing import ClassVar, Final

from bringup.daemon.decisions.instances import Changes
from bringup.daemon.decisions.states import TaskState
from bringup.drivers.base import RebootType


@dataclass(frozen=True, slots=True)
class _WithoutArguments:
    """Equal to every other one of its class, which need not be made a dataclass: that costs half a millisecond."""


@dataclass(frozen=True, slots=True)
class Save:
    """Write the record.

    Without ``expected_task_states`` the record must still be as it was last read or written.
    """

    verb: ClassVar[str] = "save"
    changes: Changes
    expected_task_states: tuple[TaskState | None, ...] | None = None


CLEAR_TASK: Final = Save({"task_state": None})


class SetError(_WithoutArguments):
    """Set the record's ``vm_state`` to ERROR, together with what an earlier save could not write."""

    __slots__ = ()
    verb: ClassVar[str] = "set_error"


class CompletePartialDeletion(_WithoutArguments):
    """Delete the row of an instance of which nothing else is left."""

    __slots__ = ()
    verb: ClassVar[str] = "complete_partial_deletion"


class Delete(_WithoutArguments):
    """Destroy the guest with its local disks, then delete the row."""

    __slots__ = ()
    verb: ClassVar[str] = "delete"


class DestroyGuest(_WithoutArguments):
    """Destroy the guest with its local disks; the row stays, for whoever finishes the deletion."""

    __slots__ = ()
    verb: ClassVar[str] = "destroy_guest"


class CleanupInterruptedSnapshot(_WithoutArguments):
    """Remove what an interrupted snapshot left on the hypervisor."""

    __slots__ = ()
    verb: ClassVar[str] = "post_interrupted_snapshot_cleanup"


class LookAtGuest(_WithoutArguments):
    """Read the power state of the guest; a guest that the hypervisor does not have is NOSTATE."""

    __slots__ = ()
    verb: ClassVar[str] = "get_info"


@dataclass(frozen=True, slots=True)
class Reboot:
    """Restart the guest, and keep the record true on the way."""

    verb: ClassVar[str] = "reboot"
    reboot_type: RebootType


class Unpause(_WithoutArguments):
    """Resume a paused guest."""

    __slots__ = ()
    verb: ClassVar[str] = "unpause"


class Stop(_WithoutArguments):
    """Shut the guest down; it is powered off after the timeout."""

    __slots__ = ()
    verb: ClassVar[str] = "stop"


class Start(_WithoutArguments):
    """Power the guest on."""

    __slots__ = ()
    verb: ClassVar[str] = "start"


class PlugVifs(_WithoutArguments):
    """Make the guest's NICs ready on this host."""

    __slots__ = ()
    verb: ClassVar[str] = "plug_vifs"


@dataclass(frozen=True, slots=True)
class RevertMigration:
    """Roll back a resize or cold migration that was cut short on its way out."""

    verb: ClassVar[str] = "finish_revert_migration"
    power_on: bool


class AbortLiveMigration(_WithoutArguments):
    """Stop the live migration of a guest that is still on its way out."""

    __slots__ = ()
    verb: ClassVar[str] = "live_migration_abort"


@dataclass(frozen=True, slots=True)
class SaveMigration:
    """Write the status of a migration."""

    verb: ClassVar[str] = "save_migration"
    migration_uuid: str
    status: str


class ResumeStateOnHostBoot(_WithoutArguments):
    """Bring a guest back that ran before the host went down."""

    __slots__ = ()
    verb: ClassVar[str] = "resume_state_on_host_boot"


class EnsureFilteringRules(_WithoutArguments):
    """Put the firewall rules of a running guest in place."""

    __slots__ = ()
    verb: ClassVar[str] = "ensure_filtering_rules_for_instance"


class Fence(_WithoutArguments):
    """Power off at once a guest that may run elsewhere at any moment; keep its definition and its disks."""

    __slots__ = ()
    verb: ClassVar[str] = "fence"


class FenceForeign(_WithoutArguments):
    """Power off at once a guest that runs here although its record names another host; keep everything else."""

    __slots__ = ()
    verb: ClassVar[str] = "fence_foreign"


class DestroyEvacuated(_WithoutArguments):
    """Destroy a guest that was evacuated to another host; its disks too, where no other host has them."""

    __slots__ = ()
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
