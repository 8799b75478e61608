"""Task states that are left of something that was cut short and that no start finishes.

Nova leaves them as they are, and answers 409 to whatever the user of the instance asks for next.
"""

from bringup.daemon.decisions.outcomes import Problem
from bringup.daemon.decisions.rules import Facts
from bringup.daemon.decisions.states import PowerState, TaskState, VmState

RESIZE_ARRIVING = frozenset({TaskState.RESIZE_MIGRATED, TaskState.RESIZE_FINISH})


def has_not_arrived(facts: Facts) -> bool:
    """Tell whether a resize or cold migration has made this host the owner before it made the guest."""
    return facts.guest_gone and facts.look is PowerState.NOSTATE and facts.instance.task_state in RESIZE_ARRIVING


def tell_stuck(facts: Facts) -> Problem:
    """Say what keeps its user out, and the command that clears it."""
    uuid, task_state = facts.instance.uuid, facts.instance.task_state
    state = "error" if facts.instance.vm_state is VmState.ERROR else "active"
    return Problem(
        "decide",
        "TaskStateLeftOver",
        f"task_state {None if task_state is None else task_state.value} is left of something that was cut short, and "
        f"Nova refuses (409) what its user asks for; if nobody works on it any more, clear it with: "
        f"openstack server set --state {state} {uuid}",
    )


def tell_has_not_arrived(facts: Facts) -> Problem:
    """Say where its disks are."""
    uuid, task_state = facts.instance.uuid, facts.instance.task_state
    return Problem(
        "decide",
        "ResizeUnfinished",
        f"task_state {None if task_state is None else task_state.value}: its resize or cold migration to this host "
        f"was cut short before its guest was made; its disks are on the host that it comes from, as {uuid}_resize in "
        f"the instances_path there (openstack server migration list --server {uuid} names the hosts). Bring them here "
        f"or give the instance back to that host by hand, then openstack server set --state active {uuid}",
    )
