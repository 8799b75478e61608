"""The order in which instances are started, and which wait for which: one queue, the same for two runs.

Operators order the host, by flavors and by rules: priority, then what takes longest, then the UUID.  A user orders own
places: the places that the instances of a project have in that order are exchanged among them, so nobody of another
project is any later.  The priority belongs to the place.  Nothing ages: the queue is finite.  A dependency has the
priority of those that wait for it.
No I/O, no clock, no logger.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from bringup.daemon.decisions.execution_order import expected_s, project_that_is_waited_for
from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.pace_keys import (
    AFTER_KEY,
    NO_KEYS,
    PaceKeys,
    Ready,
    keys_by_operator,
    names_of,
    read_keys,
)
from bringup.daemon.decisions.policies import PacePolicy
from bringup.daemon.decisions.rules import Facts
from bringup.daemon.text import quoted

UNKNOWN: Final[Mapping[str, float]] = MappingProxyType({})
_Edges: TypeAlias = dict[str, set[str]]
"""By the UUID of an instance, the UUIDs of those that it waits for."""
METADATA = "its metadata"


@dataclass(frozen=True, slots=True)
class StartOrder:
    """The queue, and what each of its instances waits for."""

    queue: tuple[Facts, ...]
    after: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By UUID, the UUIDs of those that must be ready first; never in a circle."""
    ready: Mapping[str, Ready] = field(default_factory=dict)
    """By UUID, what shows that the guest is ready, where that is set."""
    ready_at_start: frozenset[str] = frozenset()
    """UUIDs of those that need only be started for those that wait for them; their slots are held all the same."""
    priority: Mapping[str, int] = field(default_factory=dict)
    """By UUID, the priority of its place; 0 where it is missing."""
    ignored: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By UUID, sentences on what orders nothing."""

    def only(self, uuids: Collection[str]) -> "StartOrder":
        """Return the queue of some instances; the others are not waited for."""
        chosen = frozenset(uuids)
        after = {uuid: found for uuid in chosen & self.after.keys() if (found := self.after[uuid] & chosen)}
        return replace(self, queue=tuple(f for f in self.queue if f.instance.uuid in chosen), after=after)


def start_order(all_facts: Iterable[Facts], policy: PacePolicy, expected: Mapping[str, float] = UNKNOWN) -> StartOrder:
    """Order instances.  ``expected``: how long guests took to be ready on the boot before, in seconds by UUID."""
    facts = {each.instance.uuid: each for each in all_facts}
    seconds = {uuid: expected_s(each, expected.get(uuid)) for uuid, each in facts.items()}
    by_operator, by_user = {}, {}
    for uuid, each in facts.items():
        host_keys, own_keys = _keys_of(each.instance, policy)
        if host_keys is not NO_KEYS:
            by_operator[uuid] = host_keys
        if own_keys is not NO_KEYS:
            by_user[uuid] = own_keys
    ignored: dict[str, list[str]] = defaultdict(list)
    for keys in (by_operator, by_user):
        for uuid, found in keys.items():
            ignored[uuid].extend(found.problems)
    names = _Names(facts.values())
    host_edges = _without_circles(_edges(by_operator, names, ignored, own_project=False), {}, ignored, facts)
    own_edges = _without_circles(_edges(by_user, names, ignored, own_project=True), host_edges, ignored, facts)
    queue, priorities = _host_order(facts, by_operator, host_edges, seconds)
    if by_user:
        queue = _own_places(queue, facts, by_user, own_edges)
    return StartOrder(
        queue=tuple(facts[uuid] for uuid in queue),
        after={uuid: frozenset(found) for uuid, found in own_edges.items() if found},
        ready={uuid: kind for uuid in facts if (kind := _ready(uuid, by_operator, by_user)) is not None},
        ready_at_start=frozenset(uuid for uuid, keys in by_user.items() if keys.ready == "started"),
        priority={uuid: priority for uuid, priority in zip(queue, priorities, strict=True) if priority},
        ignored={uuid: tuple(found) for uuid, found in ignored.items() if found},
    )


def _keys_of(instance: Instance, policy: PacePolicy) -> tuple[PaceKeys, PaceKeys]:
    """Return what orders the host, and what orders the places of a project."""
    host_keys = keys_by_operator(instance, policy.rules)
    if policy.instance_policy == "ignored":
        return host_keys, NO_KEYS
    own = read_keys(instance.metadata, METADATA)
    if policy.instance_policy == "decides" and own is not NO_KEYS:
        return own.over(host_keys), NO_KEYS
    return host_keys, own


def _ready(uuid: str, by_operator: Mapping[str, PaceKeys], by_user: Mapping[str, PaceKeys]) -> Ready | None:
    """Return what shows that a guest is ready; a user cannot free the slot of a guest that still boots."""
    operator = by_operator.get(uuid, NO_KEYS).ready
    user = by_user.get(uuid, NO_KEYS).ready
    return operator if operator is not None or user == "started" else user


class _Names:
    """Instances by UUID and by name."""

    def __init__(self, all_facts: Iterable[Facts]) -> None:
        self._project: dict[str, str | None] = {}
        self._named: dict[str, list[str]] = defaultdict(list)
        for each in all_facts:
            instance = each.instance
            self._project[instance.uuid] = instance.project_id
            for name in names_of(instance):
                self._named[name].append(instance.uuid)

    def find(self, text: str, of: str, *, own_project: bool) -> tuple[str | None, str]:
        """Return the instance that ``of`` calls ``text``, or why there is none.

        A UUID is that of the instance, whoever calls another one so.  One of its own project is preferred;
        ``own_project``: others are not considered.
        """
        uuid = text.lower()
        found = [uuid] if uuid in self._project else self._named.get(text, [])
        own = [uuid for uuid in found if self._project[uuid] == self._project[of]]
        if not own and found and own_project:
            return None, "that is a guest of another project"
        candidates = own or found
        if not candidates:
            return None, "no guest of this host has that name or UUID"
        if len(candidates) > 1:
            return None, f"{len(candidates)} guests have that name: give a UUID"
        if candidates[0] == of:
            return None, "that is the guest itself"
        return candidates[0], ""


def _edges(
    keys: Mapping[str, PaceKeys], names: _Names, ignored: Mapping[str, list[str]], *, own_project: bool
) -> _Edges:
    """Return what instances wait for; a name that cannot be used is described."""
    edges: _Edges = {}
    for uuid, found in keys.items():
        for text in found.after:
            dependency, why = names.find(text, uuid, own_project=own_project)
            if dependency is None:
                ignored[uuid].append(f"{AFTER_KEY} {quoted(text)} is ignored: {why}")
            else:
                edges.setdefault(uuid, set()).add(dependency)
    return edges


def _without_circles(new: _Edges, kept: _Edges, ignored: Mapping[str, list[str]], facts: Mapping[str, Facts]) -> _Edges:
    """Add edges to those that are kept, without those that would close a circle; these are described.

    Of a circle all new edges are dropped, so that none depends on what was read first.
    """
    merged = {uuid: new.get(uuid, set()) | kept.get(uuid, set()) for uuid in new.keys() | kept.keys()}
    for circle in _circles(merged):
        for uuid in sorted(circle & new.keys()):
            dropped = (new[uuid] - kept.get(uuid, set())) & circle
            if dropped:
                merged[uuid] = merged[uuid] - dropped
                shown = ", ".join(facts[each].instance.shown_name or each for each in sorted(dropped))
                ignored[uuid].append(
                    f"{AFTER_KEY} {quoted(shown)} is ignored: {len(circle)} guests wait for each other in a circle"
                )
    return merged


def _circles(edges: _Edges) -> list[frozenset[str]]:
    """Return the strongly connected components of more than one node (Tarjan's algorithm, without recursion)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_nodes: dict[str, None] = {}
    found: list[frozenset[str]] = []
    for root in edges:
        work = [] if root in number else [(root, iter(sorted(edges[root])))]
        while work:
            node, rest = work[-1]
            if node not in number:
                number[node] = lowest[node] = len(number)
                open_nodes[node] = None
            following = next(rest, None)
            if following is None:
                work.pop()
                if work:
                    lowest[work[-1][0]] = min(lowest[work[-1][0]], lowest[node])
                if lowest[node] == number[node]:
                    component = set[str]()
                    while node not in component:
                        component.add(open_nodes.popitem()[0])
                    found.extend([frozenset(component)] if len(component) > 1 else [])
            elif following not in number:
                work.append((following, iter(sorted(edges.get(following, ())))))
            elif following in open_nodes:
                lowest[node] = min(lowest[node], number[following])
    return found


Key: TypeAlias = tuple[Any, ...]


def _inherited(keys: dict[str, Key], edges: _Edges) -> dict[str, Key]:
    """Return keys in which a dependency is before everything that waits for it, and as early as that."""
    height = dict.fromkeys(keys, 0)
    for uuid in reversed([*TopologicalSorter(edges).static_order()] if edges else []):
        for dependency in edges.get(uuid, ()):
            keys[dependency] = min(keys[dependency], keys[uuid])
            height[dependency] = max(height[dependency], height[uuid] + 1)
    return {uuid: (key, -height[uuid], uuid) for uuid, key in keys.items()}


def _host_order(
    facts: Mapping[str, Facts], by_operator: Mapping[str, PaceKeys], edges: _Edges, seconds: Mapping[str, float]
) -> tuple[list[str], list[int]]:
    """Order by priority, then by what takes longest, then by UUID; return the priority of each place too."""
    keys: dict[str, Key] = {
        uuid: (-(by_operator.get(uuid, NO_KEYS).priority or 0), -seconds[uuid], uuid) for uuid in facts
    }
    inherited = _inherited(keys, edges)
    queue = sorted(facts, key=inherited.__getitem__)
    return queue, [-inherited[uuid][0][0] for uuid in queue]


def _own_places(
    queue: Sequence[str], facts: Mapping[str, Facts], by_user: Mapping[str, PaceKeys], edges: _Edges
) -> list[str]:
    """Exchange the places of each project's instances by what its users say; those of all others stay.

    Those whose end is up to their guest have turns of their own (:class:`.Turns`), and so places of their own.
    """
    projects = {uuid: each.instance.project_id for uuid, each in facts.items()}
    own_edges = {
        uuid: {each for each in found if projects[each] == projects[uuid]} for uuid, found in edges.items() if found
    }
    keys: dict[str, Key] = {
        uuid: (-(by_user.get(uuid, NO_KEYS).priority or 0), place) for place, uuid in enumerate(queue)
    }
    keys = _inherited(keys, own_edges)
    lane: Callable[[str], Hashable] = lambda uuid: (projects[uuid], project_that_is_waited_for(facts[uuid]))  # noqa: E731
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, uuid in enumerate(queue):
        places[lane(uuid)].append(place)
    ordered = list(queue)
    for own in places.values():
        for place, uuid in zip(own, sorted((queue[place] for place in own), key=keys.__getitem__), strict=True):
            ordered[place] = uuid
    return ordered
