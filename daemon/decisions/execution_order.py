"""How long instances will take, and in which turns they are taken: nobody's guests before all others.

With a limit on how many are worked on at once, a long one that starts last is waited for by an empty host.  What takes
long is known from the record well enough: a reboot or a clean shutdown takes tens of seconds, a look a fraction of one.

How long a clean shutdown takes is up to who has the guest and its image: one that ignores ACPI keeps its slot for as
long as the image asks for, up to the deadline of an instance.  So such instances share half of the slots while another
instance waits for one, and among themselves the projects take turns.
No I/O, no clock, no logger.
"""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from heapq import heappop, heappush
from types import MappingProxyType
from typing import Final, Generic, TypeVar

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


def expected_s(facts: Facts, took_s: float | None = None) -> float:
    """Guess how many seconds an instance will take: only the order of the guesses matters.

    ``took_s``: how long its guest took to be ready on the boot before, if that is known.
    """
    instance = facts.instance
    if instance.host != facts.host or facts.evacuation is not None:
        return 0
    if instance.vm_state in (VmState.SOFT_DELETED, VmState.DELETED, VmState.BUILDING):
        return 0
    if isinstance(instance.task_state, TaskState) and instance.task_state in EXPECTED_S:
        return EXPECTED_S[instance.task_state]
    if facts.resume_guests and instance.power_state is PowerState.RUNNING:
        return RESUME_S if took_s is None else max(LOOK_S, took_s)
    return LOOK_S


T = TypeVar("T")
NOTHING: Final[Mapping[str, Collection[str]]] = MappingProxyType({})


class Turns(Generic[T]):
    """Items in their order; those whose end is up to somebody else share half of the slots, and theirs take turns.

    An item that waits for others is not taken before; it keeps its rank.
    """

    def __init__(
        self,
        items: Iterable[T],
        up_to: Callable[[T], Hashable | None] = lambda _item: None,
        after: Callable[[T], tuple[Hashable, Collection[Hashable]]] | None = None,
    ) -> None:
        """Keep ``items``.

        ``up_to`` tells up to whom the end of one is, None: it is worked on at our own pace.  ``after`` gives the key of
        one and the keys of those that it waits for, never in a circle; keys of no item are not waited for.
        """
        self._items = list(items)
        self._up_to = up_to
        self._others: list[int] = []
        self._theirs: dict[Hashable, list[int]] = {}
        self._held: Counter[Hashable] = Counter()
        self._in_slots: dict[int, T] = {}
        self._waiting: dict[int, set[Hashable]] = {}
        self._dependents: dict[Hashable, list[int]] = {}
        found = [] if after is None else [after(item) for item in self._items]
        known = {key for key, _dependencies in found}
        for rank, (_key, dependencies) in enumerate(found):
            if missing := known.intersection(dependencies):
                self._waiting[rank] = missing
                for each in missing:
                    self._dependents.setdefault(each, []).append(rank)
        for rank in range(len(self._items)):
            if rank not in self._waiting:
                self._add(rank)

    def __bool__(self) -> bool:
        """Whether any are left."""
        return bool(self._others or self._theirs or self._waiting)

    @property
    def can_take(self) -> bool:
        """Whether one of them waits for nothing but a slot."""
        return bool(self._others or self._theirs)

    @property
    def first(self) -> T:
        """The first of those that can be taken, by their order; one whose end is up to somebody may go before it.

        :raises ValueError: none can be.
        """
        return self._items[min(ranks[0] for ranks in (self._others, *self._theirs.values()) if ranks)]

    @property
    def in_slots(self) -> Collection[T]:
        """Items that were taken, and have not left their slots."""
        return self._in_slots.values()

    def is_awaited(self, key: Hashable) -> bool:
        """Check whether items wait for the one with this key."""
        return key in self._dependents

    def waiting_for(self, key: Hashable) -> list[T]:
        """Return the items that wait for the one with this key."""
        return [self._items[rank] for rank in self._dependents.get(key, ())]

    def met(self, key: Hashable) -> list[T]:
        """Record that nothing waits for the item with this key any more; return those that wait for nothing now."""
        freed = []
        for rank in self._dependents.pop(key, ()):
            self._waiting[rank].discard(key)
            if not self._waiting[rank]:
                del self._waiting[rank]
                self._add(rank)
                freed.append(self._items[rank])
        return freed

    def take(self, slots: float) -> T:
        """Return the next item, for one of so many slots.

        :raises IndexError: none can be taken.
        """
        item = self._items[self._take(slots)]
        self._in_slots[id(item)] = item
        return item

    def _take(self, slots: float) -> int:
        if not self._theirs or (self._others and self._held.total() >= slots // 2):
            return heappop(self._others)
        whose = min(self._theirs, key=self._held.__getitem__)
        ranks = self._theirs.pop(whose)
        self._held[whose] += 1
        rank = heappop(ranks)
        if ranks:
            # Behind the others: of two who hold as many, the one whose turn was longer ago is next.
            self._theirs[whose] = ranks
        return rank

    def left(self, item: T) -> None:
        """Record that an item has left its slot."""
        del self._in_slots[id(item)]
        whose = self._up_to(item)
        if whose is not None:
            self._held[whose] -= 1

    def _add(self, rank: int) -> None:
        whose = self._up_to(self._items[rank])
        heappush(self._others if whose is None else self._theirs.setdefault(whose, []), rank)


def turns_of(all_facts: Iterable[Facts], after: Mapping[str, Collection[str]] = NOTHING) -> Turns[Facts]:
    """Queue of items, in the order given, with a share of the slots for slow ones.

    ``after`` has, by UUID, the UUIDs of those that one waits for.
    """
    if not after:
        return Turns(all_facts, project_that_is_waited_for)
    return Turns(
        all_facts,
        project_that_is_waited_for,
        lambda facts: (facts.instance.uuid, after.get(facts.instance.uuid, ())),
    )


def project_that_is_waited_for(facts: Facts) -> Hashable | None:
    """Return up to which project the end of an instance is; None: it is worked on at our own pace."""
    waits = expected_s(facts) > 0 and facts.instance.task_state in WAITS_FOR_ITS_GUEST
    return ("project", facts.instance.project_id) if waits else None
