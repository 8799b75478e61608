"""What a lifecycle event means: Nova's ``handle_lifecycle_event`` and ``_sync_instance_power_state``.

Where Nova calls its own API to stop or delete the instance, the task state is taken first, as the API does, and then
the same action is carried out as at start.
"""

from collections.abc import Mapping

from bringup.daemon.decisions.actions import Action, Delete, Save, Stop
from bringup.daemon.decisions.from_evacuation import has_come_back
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.owed import owes
from bringup.daemon.decisions.rules import Facts, Next, Rule, always, nothing
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
    return () if facts.look is None else (Save({"power_state": facts.look}),)


def _follow(facts: Facts) -> tuple[Action, ...]:
    """Write what the guest does; one that is off because it failed, or with its memory saved, stays so."""
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
    ),
    Rule(
        "not_ours",
        lambda f: f.instance.host != f.host,
        nothing,
        Next.END,
        "Its record names another host.",
        Kind.SKIPPED,
    ),
    Rule(
        "evacuated",
        lambda f: f.evacuation is not None and not has_come_back(f),
        nothing,
        Next.END,
        "Another host starts it: that it went down here, by the fence perhaps, says nothing of it.",
        Kind.SKIPPED,
    ),
    Rule(
        "task_pending",
        lambda f: f.instance.task_state is not None,
        nothing,
        Next.END,
        "Something is being done to it: whoever does it writes the record.",
        Kind.SKIPPED,
    ),
    Rule(
        "power_changed",
        lambda f: f.instance.power_state is not f.look,
        _save_power,
        Next.GO_ON,
        "The record follows the hypervisor.",
    ),
    Rule(
        "record_follows_its_guest",
        lambda f: f.instance.follows_its_guest,
        _follow,
        Next.END,
        "No control plane keeps its record: its administrator may start and stop it, and the record says what it does.",
    ),
    Rule(
        "deletion_is_novas",
        lambda f: (
            f.instance.vm_state is VmState.ACTIVE and f.look in DOWN and f.instance.shutdown_terminate and owes(f)
        ),
        nothing,
        Next.END,
        "It was made to be deleted when it shuts down; its ports or volumes are other services': nova-compute does it.",
        Kind.SKIPPED,
    ),
    Rule(
        "terminates_on_shutdown",
        lambda f: f.instance.vm_state is VmState.ACTIVE and f.look in DOWN and f.instance.shutdown_terminate,
        _DELETE,
        Next.END,
        "It shut down by itself and was made to be deleted then.",
    ),
    Rule(
        "shut_down_by_itself",
        lambda f: f.instance.vm_state is VmState.ACTIVE and f.look in DOWN,
        _STOP,
        Next.END,
        "It shut down by itself: the record becomes stopped.",
    ),
    Rule(
        "suspended_unexpectedly",
        lambda f: f.instance.vm_state is VmState.ACTIVE and f.look is PowerState.SUSPENDED,
        _STOP,
        Next.END,
        "It was suspended behind the control plane's back.",
    ),
    Rule(
        "paused_unexpectedly",
        lambda f: f.instance.vm_state is VmState.ACTIVE and f.look is PowerState.PAUSED,
        nothing,
        Next.END,
        "A hypervisor may pause a guest for a while by itself: ignored.",
    ),
    Rule(
        "runs_though_stopped",
        lambda f: f.instance.vm_state is VmState.STOPPED and f.look not in (PowerState.NOSTATE, *DOWN),
        _STOP,
        Next.END,
        "The control plane stopped it: it is stopped again.",
    ),
    Rule(
        "paused_guest_shut_down",
        lambda f: f.instance.vm_state is VmState.PAUSED and f.look in DOWN,
        _STOP,
        Next.END,
        "It was paused and shut down by itself.",
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
    ),
    Rule("agrees", lambda _f: True, nothing, Next.END, "Record and guest agree."),
)
