"""What the record alone says: the first question of Nova's ``_init_instance``."""

from bringup.daemon.decisions.actions import (
    CLEAR_TASK,
    Action,
    CleanupInterruptedSnapshot,
    CompletePartialDeletion,
    Delete,
    DestroyGuest,
    Reboot,
    Save,
)
from bringup.daemon.decisions.from_evacuation import EVACUATION_RUNNING
from bringup.daemon.decisions.kept_elsewhere import is_kept_elsewhere
from bringup.daemon.decisions.migrating import tell_under_way, under_way
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.rules import Facts, Next, Rule, always, nothing
from bringup.daemon.decisions.shared_rows import EVACUATED_AWAY, EVACUATION_DONE, HELD_ROWS, NOT_OURS, UNREADABLE
from bringup.daemon.decisions.states import TaskState, UnknownState, VmState

BUILD_STATES = frozenset(
    {TaskState.SCHEDULING, TaskState.BLOCK_DEVICE_MAPPING, TaskState.NETWORKING, TaskState.SPAWNING}
)
REBUILD_STATES = frozenset({TaskState.REBUILDING, TaskState.REBUILD_BLOCK_DEVICE_MAPPING, TaskState.REBUILD_SPAWNING})
SNAPSHOT_STATES = frozenset(
    {
        TaskState.IMAGE_SNAPSHOT_PENDING,
        TaskState.IMAGE_PENDING_UPLOAD,
        TaskState.IMAGE_UPLOADING,
        TaskState.IMAGE_SNAPSHOT,
    }
)
EVACUATION_STATUSES = (*EVACUATION_RUNNING, EVACUATION_DONE)


def _has_unknown_state(facts: Facts) -> bool:
    return isinstance(facts.instance.vm_state, UnknownState) or isinstance(facts.instance.task_state, UnknownState)


_TO_ERROR = Save({"vm_state": VmState.ERROR, "task_state": None})


def _is_in_error(facts: Facts) -> bool:
    # Hardly any is: no more is asked of the others.
    if facts.instance.vm_state is not VmState.ERROR:
        return False
    return facts.instance.task_state not in (TaskState.RESIZE_MIGRATING, TaskState.DELETING)


def _as_a_failure_leaves_it(facts: Facts) -> tuple[Action, ...]:
    """`save task_state=none` where a reboot was begun, as a reboot that failed does."""
    return (CLEAR_TASK,) if Reboot.verb in facts.begun and facts.instance.task_state is not None else ()


FROM_RECORD: tuple[Rule, ...] = (
    UNREADABLE,
    NOT_OURS,
    EVACUATED_AWAY,
    Rule(
        "unknown_state",
        _has_unknown_state,
        nothing,
        Next.END,
        "Its vm_state or task_state is none that this version knows: nothing is done on a guess.",
        Kind.FAILED,
        condition="`vm_state` or `task_state` is one that this version does not know.",
    ),
    Rule(
        "soft_deleted",
        lambda f: f.instance.vm_state is VmState.SOFT_DELETED,
        nothing,
        Next.END,
        "It was deleted and may yet be restored: it stays as it is.",
        Kind.SKIPPED,
        condition="`vm_state` is `soft-delete`.",
    ),
    Rule(
        "failed_before",
        lambda f: _is_in_error(f) and bool(f.begun - {Save.verb}),
        _as_a_failure_leaves_it,
        Next.END,
        "The run that was cut short was working on it and has set it to ERROR: an operator has to decide.",
        Kind.FAILED,
        condition=(
            "`vm_state` is `error`, and the run of this boot that was cut short had begun an action on the "
            "instance other than a save."
        ),
    ),
    Rule(
        "given_up_before",
        lambda f: _is_in_error(f) and bool(f.begun),
        nothing,
        Next.END,
        "The run that was cut short has set it to ERROR, because its build or rebuild was interrupted.",
        condition="`vm_state` is `error`, and the run of this boot that was cut short had begun to write the record.",
    ),
    Rule(
        "in_error",
        _is_in_error,
        nothing,
        Next.END,
        "It is in ERROR, and neither a resize nor a deletion of it was cut short: an operator has to decide.",
        Kind.SKIPPED,
        condition="`vm_state` is `error`, and `task_state` is neither `resize_migrating` nor `deleting`.",
    ),
    *HELD_ROWS,
    Rule(
        "moving",
        lambda f: bool(under_way(f)),
        nothing,
        Next.END,
        "A migration of it to another host was written since this host has booted: nova-compute continues it.",
        Kind.SUPERSEDED,
        tells=tell_under_way,
        condition=(
            "A migration to another host is not over, fits the task state of the record, and was written since "
            "this host booted."
        ),
    ),
    Rule(
        "half_deleted",
        lambda f: f.instance.vm_state is VmState.DELETED,
        always(CompletePartialDeletion()),
        Next.END,
        "The guest was deleted, its row was not.",
        condition="`vm_state` is `deleted` and the row is still there.",
    ),
    Rule(
        "build_interrupted",
        lambda f: f.instance.vm_state is VmState.BUILDING or f.instance.task_state in BUILD_STATES,
        always(_TO_ERROR),
        Next.END,
        "The host went down before the guest was built.",
        condition=(
            "`vm_state` is `building`, or `task_state` is `scheduling`, `block_device_mapping`, `networking` or "
            "`spawning`."
        ),
    ),
    Rule(
        "rebuild_interrupted",
        lambda f: f.instance.vm_state in (VmState.ACTIVE, VmState.STOPPED) and f.instance.task_state in REBUILD_STATES,
        always(_TO_ERROR),
        Next.END,
        "The host went down before the guest was rebuilt.",
        condition=(
            "`vm_state` is `active` or `stopped`, and `task_state` is `rebuilding`, "
            "`rebuild_block_device_mapping` or `rebuild_spawning`."
        ),
    ),
    Rule(
        "snapshot_interrupted",
        lambda f: f.instance.vm_state is not VmState.ERROR and f.instance.task_state in SNAPSHOT_STATES,
        always(CleanupInterruptedSnapshot(), CLEAR_TASK),
        Next.CONTINUE,
        "The host went down while a snapshot was taken: what it left is removed.",
        condition=(
            "`task_state` is one of a snapshot (`image_snapshot`, `image_snapshot_pending`, "
            "`image_pending_upload`, `image_uploading`), and `vm_state` is not `error`."
        ),
    ),
    Rule(
        "resize_preparation_interrupted",
        lambda f: f.instance.vm_state is not VmState.ERROR and f.instance.task_state is TaskState.RESIZE_PREP,
        always(CLEAR_TASK),
        Next.CONTINUE,
        "A resize was prepared and had touched nothing yet.",
        condition="`task_state` is `resize_prep`, and `vm_state` is not `error`.",
    ),
    Rule(
        "deletion_owes_elsewhere",
        lambda f: f.instance.task_state is TaskState.DELETING and is_kept_elsewhere(f),
        always(DestroyGuest()),
        Next.END,
        "Its deletion was cut short, and its ports or volumes are other services': nova-compute finishes it.",
        Kind.DEFERRED,
        condition="`task_state` is `deleting`, the record names ports or volumes, and other services keep them.",
    ),
    Rule(
        "deletion_interrupted",
        lambda f: f.instance.task_state is TaskState.DELETING,
        always(Delete()),
        Next.END,
        "Its deletion was cut short: it is done again from the start.",
        condition="`task_state` is `deleting`.",
    ),
)
