"""The states of a record, as Nova names them.

Parsed once, at the border; inside, compared with ``is``.  A state that this version does not know is kept as
:class:`UnknownState`: the decision tables make it the outcome of that one instance.
"""

import enum
from dataclasses import dataclass

from bringup.drivers.base import PowerState

__all__ = ["PowerState", "TaskState", "UnknownState", "VmState", "power_state", "task_state", "vm_state"]


class VmState(enum.Enum):
    """What the control plane believes an instance to be (``nova.compute.vm_states``)."""

    ACTIVE = "active"
    BUILDING = "building"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    STOPPED = "stopped"
    RESCUED = "rescued"
    RESIZED = "resized"
    SOFT_DELETED = "soft-delete"
    DELETED = "deleted"
    ERROR = "error"
    SHELVED = "shelved"
    SHELVED_OFFLOADED = "shelved_offloaded"


class TaskState(enum.Enum):
    """What was being done to an instance (``nova.compute.task_states``); None on a record: nothing."""

    SCHEDULING = "scheduling"
    BLOCK_DEVICE_MAPPING = "block_device_mapping"
    NETWORKING = "networking"
    SPAWNING = "spawning"
    IMAGE_SNAPSHOT = "image_snapshot"
    IMAGE_SNAPSHOT_PENDING = "image_snapshot_pending"
    IMAGE_PENDING_UPLOAD = "image_pending_upload"
    IMAGE_UPLOADING = "image_uploading"
    IMAGE_BACKUP = "image_backup"
    UPDATING_PASSWORD = "updating_password"  # noqa: S105 - the name of a state
    RESIZE_PREP = "resize_prep"
    RESIZE_MIGRATING = "resize_migrating"
    RESIZE_MIGRATED = "resize_migrated"
    RESIZE_FINISH = "resize_finish"
    RESIZE_REVERTING = "resize_reverting"
    RESIZE_CONFIRMING = "resize_confirming"
    REBOOTING = "rebooting"
    REBOOT_PENDING = "reboot_pending"
    REBOOT_STARTED = "reboot_started"
    REBOOTING_HARD = "rebooting_hard"
    REBOOT_PENDING_HARD = "reboot_pending_hard"
    REBOOT_STARTED_HARD = "reboot_started_hard"
    PAUSING = "pausing"
    UNPAUSING = "unpausing"
    SUSPENDING = "suspending"
    RESUMING = "resuming"
    POWERING_OFF = "powering-off"
    POWERING_ON = "powering-on"
    RESCUING = "rescuing"
    UNRESCUING = "unrescuing"
    REBUILDING = "rebuilding"
    REBUILD_BLOCK_DEVICE_MAPPING = "rebuild_block_device_mapping"
    REBUILD_SPAWNING = "rebuild_spawning"
    MIGRATING = "migrating"
    DELETING = "deleting"
    SOFT_DELETING = "soft-deleting"
    RESTORING = "restoring"
    SHELVING = "shelving"
    SHELVING_IMAGE_PENDING_UPLOAD = "shelving_image_pending_upload"
    SHELVING_IMAGE_UPLOADING = "shelving_image_uploading"
    SHELVING_OFFLOADING = "shelving_offloading"
    UNSHELVING = "unshelving"


@dataclass(frozen=True, slots=True)
class UnknownState:
    """A state that this version does not know, as it was written."""

    value: str | int


def vm_state(value: str) -> VmState | UnknownState:
    """Parse a ``vm_state`` as Nova's API and database write it."""
    try:
        return VmState(value)
    except ValueError:
        return UnknownState(value)


def task_state(value: str | None) -> TaskState | UnknownState | None:
    """Parse a ``task_state``; None is none."""
    if value is None:
        return None
    try:
        return TaskState(value)
    except ValueError:
        return UnknownState(value)


def power_state(value: int | None) -> PowerState | UnknownState | None:
    """Parse a ``power_state`` number; None is none."""
    if value is None:
        return None
    try:
        return PowerState(value)
    except ValueError:
        return UnknownState(value)
