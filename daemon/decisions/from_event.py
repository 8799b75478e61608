"""What a lifecycle event means: Nova's ``handle_lifecycle_event`` and ``_sync_instance_power_state``.

Where Nova calls its own API to stop or delete the instance, the task state is taken first, as the API does, and then
the same action is carried out as at start.
"""

from collections.abc import Mapping
from dataclasses import replace

from bringup.daemon.decisions.actions import Action, Delete, Save, Stop
from bringup.daemon.decisions.kept_elsewhere import is_kept_elsewhere
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.rules import Facts, Next, Rule, always, nothing
from bringup.daemon.decisions.shared_rows import EVACUATED_AWAY, NOT_OURS
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.drivers.base import POWER_AFTER

DOWN = (PowerState.SHUTDOWN, PowerState.CRASHED)
# A pause may be the hypervisor's own, for a while.
FOLLOWED: Mapping[PowerState | None, VmState] = {
    PowerState.RUNNING: VmState.ACTIVE,
    PowerState.SUSPENDED: VmState.SUSPENDED,
    PowerState.SHUTDOWN: VmState.STOPPED,
    PowerState.CRASHED: VmState.STOPPED,
}

_STOP = always(Save({"task_state": TaskState.POWERING_OFF}, expected_task_states=(None,)), Stop())
_DELETE = always(Save({"task_state": TaskState.DELETING}, expected_task_states=(None,)), Delete())


def _save_power(facts: Facts) -> tuple[Action, ...]:
    """`save power_state=` that of the guest."""
    return () if facts.look is None else (Save({"power_state": facts.look}),)


def _follow(facts: Facts) -> tuple[Action, ...]:
    """`save vm_state=` what the guest does; one in `error` or `suspended` that is off keeps its `vm_state`."""
    now, known = FOLLOWED.get(facts.look), facts.instance.vm_state
    if now is None or now is known or (now is VmState.STOPPED and known in (VmState.ERROR, VmState.SUSPENDED)):
        return ()
    return (Save({"vm_state": now}, expected_task_states=(None,)),)


LIFECYCLE: tuple[Rule, ...] = (
    Rule(
        "event_outdated",
        lambda f: f.transition is None or f.look is not POWER_AFTER[f.transition],
        nothing,
        Next.END,
        "The guest is in another state by now: the event came late.",
        Kind.SKIPPED,
        condition="The guest is not in the state that the event announces.",
    ),
    replace(NOT_OURS, why="Its record names another host."),
    replace(
        EVACUATED_AWAY,
        why="Another host starts it: that it went down here, perhaps by a power-off of ours, means nothing.",
    ),
    Rule(
        "task_pending",
        lambda f: f.instance.task_state is not None,
        nothing,
        Next.END,
        "Something is being done to it: that operation writes the record.",
        Kind.SKIPPED,
        condition="The record has a task state.",
    ),
    Rule(
        "power_changed",
        lambda f: f.instance.power_state is not f.look,
        _save_power,
        Next.CONTINUE,
        "The record follows the hypervisor.",
        condition="The power state of the record is not that of the guest.",
    ),
    Rule(
        "record_follows_its_guest",
        lambda f: f.instance.follows_its_guest,
        _follow,
        Next.END,
        "No control plane keeps its record: its administrator may start and stop it, and the record says what it does.",
        condition="The record was made from the guest: no control plane keeps it.",
    ),
    Rule(
        "deletion_is_novas",
        lambda f: (
            f.instance.vm_state is VmState.ACTIVE
            and f.look in DOWN
            and f.instance.shutdown_terminate
            and is_kept_elsewhere(f)
        ),
        nothing,
        Next.END,
        "It was made to be deleted when it shuts down; its ports or volumes are other services': nova-compute does it.",
        Kind.SKIPPED,
        condition=(
            "`vm_state` is `active`, the guest is off, `shutdown_terminate` is set, and the record names ports or "
            "volumes that other services keep."
        ),
    ),
    Rule(
        "terminates_on_shutdown",
        lambda f: f.instance.vm_state is VmState.ACTIVE and f.look in DOWN and f.instance.shutdown_terminate,
        _DELETE,
        Next.END,
        "It shut down by itself and was made to be deleted then.",
        condition="`vm_state` is `active`, the guest is off, and `shutdown_terminate` is set.",
    ),
    Rule(
        "shut_down_by_itself",
        lambda f: f.instance.vm_state is VmState.ACTIVE and f.look in DOWN,
        _STOP,
        Next.END,
        "It shut down by itself: the record becomes stopped.",
        condition="`vm_state` is `active`, and the guest is off.",
    ),
    Rule(
        "suspended_unexpectedly",
        lambda f: f.instance.vm_state is VmState.ACTIVE and f.look is PowerState.SUSPENDED,
        _STOP,
        Next.END,
        "It was suspended without the control plane.",
        condition="`vm_state` is `active`, and the guest is suspended.",
    ),
    Rule(
        "paused_unexpectedly",
        lambda f: f.instance.vm_state is VmState.ACTIVE and f.look is PowerState.PAUSED,
        nothing,
        Next.END,
        "A hypervisor may pause a guest for a while by itself: ignored.",
        condition="`vm_state` is `active`, and the guest is paused.",
    ),
    Rule(
        "runs_though_stopped",
        lambda f: f.instance.vm_state is VmState.STOPPED and f.look not in (PowerState.NOSTATE, *DOWN),
        _STOP,
        Next.END,
        "The control plane stopped it: it is stopped again.",
        condition="`vm_state` is `stopped`, and the guest runs, is paused or is suspended.",
    ),
    Rule(
        "paused_guest_shut_down",
        lambda f: f.instance.vm_state is VmState.PAUSED and f.look in DOWN,
        _STOP,
        Next.END,
        "It was paused and shut down by itself.",
        condition="`vm_state` is `paused`, and the guest is off.",
    ),
    Rule(
        "exists_though_deleted",
        lambda f: (
            f.instance.vm_state in (VmState.SOFT_DELETED, VmState.DELETED)
            and f.look not in (PowerState.NOSTATE, PowerState.SHUTDOWN)
        ),
        nothing,
        Next.END,
        "The control plane deleted it: nothing is destroyed on an event.",
        condition="`vm_state` is `soft-delete` or `deleted`, and the guest is neither off nor gone.",
    ),
    Rule(
        "agrees",
        lambda _f: True,
        nothing,
        Next.END,
        "Record and guest agree.",
        condition="None of the rules above.",
    ),
)
