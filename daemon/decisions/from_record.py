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
from bringup.daemon.decisions.from_evacuation import EVACUATION_DONE, EVACUATION_RUNNING, has_come_back
from bringup.daemon.decisions.guard_rows import HELD_ROWS
from bringup.daemon.decisions.migrating import tell_under_way, under_way
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.owed import owes
from bringup.daemon.decisions.rules import Facts, Next, Rule, always, nothing
from bringup.daemon.decisions.states import TaskState, UnknownState, VmState
from bringup.daemon.decisions.unreadable_records import UNREADABLE

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
    goes_on = facts.instance.task_state in (TaskState.RESIZE_MIGRATING, TaskState.DELETING)
    return facts.instance.vm_state is VmState.ERROR and not goes_on


def _as_a_failure_leaves_it(facts: Facts) -> tuple[Action, ...]:
    """Clear the task state of a reboot, as a reboot that failed does."""
    return (CLEAR_TASK,) if Reboot.verb in facts.begun and facts.instance.task_state is not None else ()


FROM_RECORD: tuple[Rule, ...] = (
    UNREADABLE,
    Rule(
        "not_ours",
        lambda f: f.instance.host != f.host,
        nothing,
        Next.END,
        "Its record names another host: it was moved away meanwhile.",
        Kind.SKIPPED,
    ),
    Rule(
        "evacuated",
        lambda f: f.evacuation is not None and not has_come_back(f),
        nothing,
        Next.END,
        "An evacuation from this host was accepted, runs or is done: another host starts it (Nova bug 1764883).",
        Kind.SKIPPED,
    ),
    Rule(
        "unknown_state",
        _has_unknown_state,
        nothing,
        Next.END,
        "Its vm_state or task_state is none that this version knows: nothing is done on a guess.",
        Kind.FAILED,
    ),
    Rule(
        "soft_deleted",
        lambda f: f.instance.vm_state is VmState.SOFT_DELETED,
        nothing,
        Next.END,
        "It was deleted and may yet be restored: it stays as it is.",
        Kind.SKIPPED,
    ),
    Rule(
        "failed_before",
        lambda f: _is_in_error(f) and bool(f.begun - {Save.verb}),
        _as_a_failure_leaves_it,
        Next.END,
        "The run that was cut short was working on it and has set it to ERROR: it waits for a person.",
        Kind.FAILED,
    ),
    Rule(
        "given_up_before",
        lambda f: _is_in_error(f) and bool(f.begun),
        nothing,
        Next.END,
        "The run that was cut short has set it to ERROR, because its build or rebuild was interrupted.",
    ),
    Rule(
        "in_error",
        _is_in_error,
        nothing,
        Next.END,
        "It is in ERROR, and neither a resize nor a deletion of it was cut short: it waits for a person.",
        Kind.SKIPPED,
    ),
    *HELD_ROWS,
    Rule(
        "moving",
        lambda f: bool(under_way(f)),
        nothing,
        Next.END,
        "A migration of it to another host was written since this host has booted: who works on it goes on.",
        Kind.SUPERSEDED,
        tells=tell_under_way,
    ),
    Rule(
        "half_deleted",
        lambda f: f.instance.vm_state is VmState.DELETED,
        always(CompletePartialDeletion()),
        Next.END,
        "The guest was deleted, its row was not.",
    ),
    Rule(
        "build_interrupted",
        lambda f: f.instance.vm_state is VmState.BUILDING or f.instance.task_state in BUILD_STATES,
        always(_TO_ERROR),
        Next.END,
        "The host went down before the guest was built.",
    ),
    Rule(
        "rebuild_interrupted",
        lambda f: f.instance.vm_state in (VmState.ACTIVE, VmState.STOPPED) and f.instance.task_state in REBUILD_STATES,
        always(_TO_ERROR),
        Next.END,
        "The host went down before the guest was rebuilt.",
    ),
    Rule(
        "snapshot_interrupted",
        lambda f: f.instance.vm_state is not VmState.ERROR and f.instance.task_state in SNAPSHOT_STATES,
        always(CleanupInterruptedSnapshot(), CLEAR_TASK),
        Next.GO_ON,
        "The host went down while a snapshot was taken: what it left is removed.",
    ),
    Rule(
        "resize_preparation_interrupted",
        lambda f: f.instance.vm_state is not VmState.ERROR and f.instance.task_state is TaskState.RESIZE_PREP,
        always(CLEAR_TASK),
        Next.GO_ON,
        "A resize was prepared and had touched nothing yet.",
    ),
    Rule(
        "deletion_owes_elsewhere",
        lambda f: f.instance.task_state is TaskState.DELETING and owes(f),
        always(DestroyGuest()),
        Next.END,
        "Its deletion was cut short, and its ports or volumes are other services': nova-compute finishes it.",
        Kind.DEFERRED,
    ),
    Rule(
        "deletion_interrupted",
        lambda f: f.instance.task_state is TaskState.DELETING,
        always(Delete()),
        Next.END,
        "Its deletion was cut short: it is done again from the start.",
    ),
)
