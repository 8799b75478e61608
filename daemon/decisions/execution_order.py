"""In which order instances are taken: those that will take longest first, and nobody's guests before all others.

With a limit on how many are worked on at once, a long one that starts last is waited for by an empty host.  What takes
long is known from the record well enough: a reboot or a clean shutdown takes tens of seconds, a look a fraction of one.

How long a clean shutdown takes is up to who has the guest and its image: one that ignores ACPI keeps its slot for as
long as the image asks for, up to the deadline of an instance.  So such instances share half of the slots while another
instance waits for one, and among themselves the projects take turns.
No I/O, no clock, no logger.
"""

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

from bringup.daemon.decisions.rules import Facts
from bringup.daemon.decisions.states import PowerState, TaskState, VmState

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
WAITS_FOR_ITS_GUEST = frozenset(
    {TaskState.POWERING_OFF, TaskState.REBOOTING, TaskState.REBOOT_PENDING, TaskState.REBOOT_STARTED}
)
"""Where a guest is asked to shut down cleanly, and waited for."""
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


T = TypeVar("T")


class Turns(Generic[T]):
    """Items in their order; those whose end is up to somebody else share half of the slots, and theirs take turns."""

    def __init__(self, items: Iterable[T], up_to: Callable[[T], Hashable | None] = lambda _item: None) -> None:
        """Keep ``items``; ``up_to`` tells up to whom the end of one is, None: it is worked on at our own pace."""
        self._up_to = up_to
        self._others: deque[T] = deque()
        self._theirs: dict[Hashable, deque[T]] = {}
        self._held: Counter[Hashable] = Counter()
        for item in items:
            whose = up_to(item)
            (self._others if whose is None else self._theirs.setdefault(whose, deque())).append(item)

    def __bool__(self) -> bool:
        """Whether any are left."""
        return bool(self._others or self._theirs)

    def take(self, slots: float) -> T:
        """Return the next item, for one of so many slots.

        :raises IndexError: none are left.
        """
        if not self._theirs or (self._others and self._held.total() >= slots // 2):
            return self._others.popleft()
        whose = min(self._theirs, key=self._held.__getitem__)
        items = self._theirs.pop(whose)
        self._held[whose] += 1
        item = items.popleft()
        if items:
            # Behind the others: of two who hold as many, the one whose turn was longer ago is next.
            self._theirs[whose] = items
        return item

    def left(self, item: T) -> None:
        """Record that an item has left its slot."""
        whose = self._up_to(item)
        if whose is not None:
            self._held[whose] -= 1


def turns_of(all_facts: Iterable[Facts]) -> Turns[Facts]:
    """Queue of items, in the order given, with a share of the slots for slow ones."""
    return Turns(all_facts, _project_that_is_waited_for)


def _project_that_is_waited_for(facts: Facts) -> Hashable | None:
    waits = expected_s(facts) > 0 and facts.instance.task_state in WAITS_FOR_ITS_GUEST
    return ("project", facts.instance.project_id) if waits else None
