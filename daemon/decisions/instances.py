"""Records: what the control plane knows of an instance and of its migrations.

Values, never changed: a store loads them, :mod:`bringup.daemon.recovery.working_copy` holds the one that is being
worked on. No I/O, no clock, no logger.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypedDict

from bringup.daemon.decisions.states import PowerState, TaskState, UnknownState, VmState

ORIGIN: Final = "bringup_origin"
"""In system_metadata: who keeps the record, where that is no control plane."""
UNREADABLE: Final = "unreadable"
"""The type of a migration that is there and cannot be read: what it asks of its instance is not known."""
FROM_LIBVIRT: Final = "libvirt"
"""It is made of the guest itself, and its administrator's word is what the guest does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One row of Nova's ``instances`` with its info cache, its metadata and its block device mappings.

    It is also what a driver receives (:class:`bringup.drivers.base.Guest`).
    """

    uuid: str
    host: str | None
    vm_state: VmState | UnknownState
    task_state: TaskState | UnknownState | None = None
    power_state: PowerState | UnknownState | None = None
    node: str | None = None
    name: str = ""
    display_name: str = ""
    project_id: str | None = None
    user_id: str | None = None
    flavor: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    system_metadata: Mapping[str, str] = field(default_factory=dict)
    network_info: Sequence[Mapping[str, Any]] = ()
    block_devices: Sequence[Mapping[str, Any]] = ()
    shutdown_terminate: bool = False
    terminated_at: str | None = None

    @property
    def shown_name(self) -> str:
        """Name by which an operator knows it: its display name, else that of its guest; empty where it has neither."""
        return self.display_name or self.name

    @property
    def follows_its_guest(self) -> bool:
        """Whether no control plane keeps this record: it says what the guest does, not what it should do."""
        return self.system_metadata.get(ORIGIN) == FROM_LIBVIRT


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableInstance(Instance):
    """A row that is there and cannot be read: nothing is done with its guest, and nothing is written to it.

    Only ``uuid`` is known of it and, where that could be read, ``host``.
    """

    why: str
    remedy: str = "have its row in Nova's database corrected (openstack server show UUID)"
    """What to do about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One row of Nova's ``migrations``.

    ``migration_type`` is ``evacuation``, ``live-migration``, ``migration`` or ``resize``; ``status`` is Nova's word.
    """

    uuid: str
    instance_uuid: str
    migration_type: str
    status: str
    source_compute: str
    dest_compute: str | None = None
    updated_at: float | None = field(default=None, compare=False)
    """When it was last written, in seconds since 1970; None where the store does not know."""


class Changes(TypedDict, total=False):
    """The columns that a save writes."""

    vm_state: VmState
    task_state: TaskState | None
    power_state: PowerState
    terminated_at: str
    system_metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Expected:
    """The states that a record must still have for a save to be made: one of each."""

    vm_states: tuple[VmState | UnknownState, ...]
    task_states: tuple[TaskState | UnknownState | None, ...]
