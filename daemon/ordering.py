"""In which order instances are taken: those that will take longest first.

With a limit on how many are worked on at once, a long one that starts last is waited for by an empty host.  What takes
long is known from the record well enough: a reboot or a clean shutdown takes tens of seconds, a look a fraction of one.
No I/O, no clock, no logger.
"""

from collections.abc import Iterable

from bringup.daemon.decisions import Facts
from bringup.daemon.states import PowerState, TaskState, VmState

EXPECTED_S: dict[TaskState, float] = {
    TaskState.POWERING_OFF: 60,
    TaskState.RESIZE_MIGRATING: 45,
    TaskState.REBOOTING: 30,
    TaskState.REBOOT_PENDING: 30,
    TaskState.REBOOT_STARTED: 30,
    TaskState.REBOOTING_HARD: 30,
    TaskState.REBOOT_PENDING_HARD: 30,
    TaskState.REBOOT_STARTED_HARD: 30,
    TaskState.POWERING_ON: 20,
    TaskState.DELETING: 15,
    TaskState.MIGRATING: 10,
    TaskState.UNPAUSING: 5,
}
RESUME_S = 20.0
LOOK_S = 1.0


def expected_s(facts: Facts) -> float:
    """Guess how many seconds an instance will take: only the order of the guesses matters."""
    instance = facts.instance
    if instance.host != facts.host or facts.evacuation is not None:
        return 0
    if instance.vm_state in (VmState.SOFT_DELETED, VmState.DELETED, VmState.BUILDING):
        return 0
    if isinstance(instance.task_state, TaskState) and instance.task_state in EXPECTED_S:
        return EXPECTED_S[instance.task_state]
    if facts.resume_guests and instance.power_state is PowerState.RUNNING:
        return RESUME_S
    return LOOK_S


def in_order(all_facts: Iterable[Facts]) -> list[Facts]:
    """Sort: longest first, and by UUID among equals, so that two runs take the same order."""
    return sorted(all_facts, key=lambda facts: (-expected_s(facts), facts.instance.uuid))
