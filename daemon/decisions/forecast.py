"""What would happen to one instance: the tables, read without doing anything.

Where the power state of the guest would decide and is not known, the tables are read for each power state that it
may give, and states that read alike stand together.  No I/O, no clock, no logger.
What does it is :mod:`bringup.daemon.recovery.init_instance`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from itertools import chain
from typing import Any

from bringup.daemon.decisions.actions import RevertMigration, Save
from bringup.daemon.decisions.did import after_look, combined, did_by, did_of
from bringup.daemon.decisions.outcomes import Did, Kind, Problem
from bringup.daemon.decisions.remarks import remarks
from bringup.daemon.decisions.rules import Facts, Rule, Step, decide, with_look
from bringup.daemon.decisions.shared_rows import has_come_back
from bringup.daemon.decisions.states import PowerState
from bringup.daemon.decisions.table_order import EVACUATED_TABLES, FOREIGN_TABLES, OWN_TABLES, Tables

# Those that run come first, as they do on a host.
POWER_STATES = (PowerState.RUNNING, *(state for state in PowerState if state is not PowerState.RUNNING))


DidByLooks = Mapping[tuple[PowerState | None, PowerState | None], Did]
"""What is done, by the two power states that are read; None: none is read."""


class WhichLook(Enum):
    """First or second reading of the power state."""

    FIRST = "first"
    SECOND = "second"


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One way that it may go, from the first rule to the last."""

    because: tuple[str, ...]
    """Names of the rules that hold, in order."""
    why: tuple[str, ...]
    """A sentence for each of them."""
    steps: tuple[Step, ...]
    kind: Kind
    """Its outcome if nothing fails."""
    compute_done: Callable[[], DidByLooks] = field(default=dict, compare=False)
    """Computes :attr:`done`: most courses are never asked for it."""
    first_look: tuple[PowerState, ...] = ()
    """What the first look may give on this way; empty: there is none."""
    second_look: tuple[PowerState, ...] = ()
    """What the second look may give; empty: there is none."""
    told: tuple[Problem, ...] = ()
    """Notes for an operator."""
    has_guest: bool | None = None
    """Whether the hypervisor has the guest, where that decides; None where it does not."""

    @property
    def done(self) -> DidByLooks:
        """What is done to it if nothing fails."""
        return self.compute_done()

    @property
    def did(self) -> Did | None:
        """What is done to it; None: that depends on what the looks give."""
        different = set(self.done.values())
        return different.pop() if len(different) == 1 else None

    def deferred(self) -> "Course":
        """Return the course of an instance that lacks something that it needs."""
        return replace(self, steps=(), kind=Kind.DEFERRED, compute_done=lambda: {(None, None): Did.DEFERRED})


@dataclass(frozen=True, slots=True)
class Forecast:
    """All ways that it may go: one where nothing depends on what is not known yet."""

    courses: tuple[Course, ...]

    @property
    def certain(self) -> Course | None:
        """The only way, None where there are more."""
        return self.courses[0] if len(self.courses) == 1 else None

    @property
    def because(self) -> tuple[str, ...]:
        """Names of the rules that hold on all ways, from the first on."""
        return tuple(name for name, _why in self._reasons())

    @property
    def why(self) -> tuple[str, ...]:
        """A sentence for each of them."""
        return tuple(why for _name, why in self._reasons())

    def _reasons(self) -> tuple[tuple[str, str], ...]:
        return _shared([tuple(zip(course.because, course.why, strict=True)) for course in self.courses])

    @property
    def steps(self) -> tuple[Step, ...]:
        """What is done on all ways, from the first step on."""
        return _shared([course.steps for course in self.courses])

    @property
    def waits_for(self) -> WhichLook | None:
        """The reading that decides between the courses; None where none does."""
        if len({course.first_look for course in self.courses}) > 1:
            return WhichLook.FIRST
        return WhichLook.SECOND if len({course.second_look for course in self.courses}) > 1 else None


@dataclass(frozen=True, slots=True)
class _Reading:
    """How far the tables have been read."""

    facts: Facts = field(compare=False)
    because: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
    parts: tuple[tuple[Step, ...], ...] = ((),)
    """The steps before the first look, and those after each look."""
    ends: bool = False
    kind: Kind = Kind.INITIALIZED
    told: tuple[Problem, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps, in order."""
        return tuple(chain.from_iterable(self.parts))

    def read(self, table: Sequence[Rule], look: PowerState | None = None) -> "_Reading":
        """Read one more table."""
        facts = self.facts if look is None else with_look(self.facts, look)
        plan = decide(table, facts)
        changes = _changes(plan.steps)
        if changes:
            facts = replace(facts, instance=replace(facts.instance, **changes))
        *before, last = self.parts if look is None else (*self.parts, ())
        return _Reading(
            facts,
            self.because + plan.because,
            self.why + tuple(rule.why for rule in plan.rules),
            (*before, last + plan.steps),
            plan.ends,
            plan.kind,
            self.told + plan.warnings + (() if plan.problem is None else (plan.problem,)),
        )

    def read_each(
        self, table: Sequence[Rule], look: PowerState | None
    ) -> Iterator[tuple[tuple[PowerState, ...], "_Reading"]]:
        """Read a table for what a look gave or, where that is not known, for each power state."""
        groups: list[tuple[_Reading, list[PowerState]]] = []
        for state in POWER_STATES if look is None else (look,):
            reading = self.read(table, state)
            alike = next((states for other, states in groups if other == reading), None)
            if alike is None:
                groups.append((reading, [state]))
            else:
                alike.append(state)
        return ((tuple(states), reading) for reading, states in groups)


def foresee(
    facts: Facts,
    look: PowerState | None = None,
    second_look: PowerState | None = None,
    *,
    has_guest: bool | None = None,
) -> Forecast:
    """Read all tables.

    ``look`` and ``second_look`` are the power states that are read; None: not known.  ``has_guest`` says whether
    the hypervisor has the guest, which decides on evacuated instances only; None: not known.
    """
    looks = (look, second_look)
    if facts.is_foreign:
        return Forecast(tuple(_courses(facts, FOREIGN_TABLES, looks)))
    evacuated = facts.evacuation is not None and not has_come_back(facts)
    if not evacuated:
        return Forecast(tuple(_courses(facts, OWN_TABLES, looks)))
    ways: list[Course] = []
    if has_guest is not False:
        ways += [replace(course, has_guest=True) for course in _courses(facts, EVACUATED_TABLES, looks)]
    if not has_guest:
        ways += [replace(course, has_guest=False) for course in _courses(facts, OWN_TABLES, looks)]
    return Forecast(tuple(ways))


_Looks = Sequence[PowerState | None]
_Seen = tuple[tuple[PowerState, ...], ...]


def _courses(facts: Facts, tables: Tables, looks: _Looks) -> Iterator[Course]:
    for reading, seen in _ways(_Reading(facts), tables, looks):
        first, second = (*seen, (), ())[:2]
        yield Course(
            because=reading.because,
            why=reading.why,
            steps=reading.steps,
            kind=reading.kind,
            compute_done=partial(_done, facts, reading, seen),
            told=reading.told + (remarks(facts, reading.facts, reading.kind, reading.steps) if reading.ends else ()),
            first_look=first,
            second_look=second,
        )


def _ways(reading: _Reading, tables: Tables, looks: _Looks, seen: _Seen = ()) -> Iterator[tuple[_Reading, _Seen]]:
    """Read the tables to their end on each way that the looks may lead to."""
    if reading.ends or not tables:
        yield reading, seen
        return
    table, *rest = tables
    if table is not None:
        yield from _ways(reading.read(table), rest, looks, seen)
        return
    table, *rest = rest
    for states, further in reading.read_each(table or (), looks[0]):
        yield from _ways(further, rest, looks[1:], (*seen, states))


def undisturbed(forecast: Forecast, look: PowerState) -> Course:
    """Choose the way it goes if the guest is as ``look`` saw it and changes only by the steps of the course."""
    for course in forecast.courses:
        after = _power_after(look, course.steps)
        if (not course.first_look or look in course.first_look) and (
            not course.second_look or after in course.second_look
        ):
            return replace(course, compute_done=partial(_known, course, look, after))
    raise ValueError(f"no course of this forecast begins with {look.name}")


def _known(course: Course, look: PowerState, after: PowerState) -> DidByLooks:
    key = look if course.first_look else None, after if course.second_look else None
    return {key: course.done[key]}


def _done(facts: Facts, reading: _Reading, seen: _Seen) -> DidByLooks:
    """Return what the steps of a way do, for each of the looks that lead to it."""
    before, *after = reading.parts
    done: dict[tuple[PowerState, ...], Did | None] = {(): _done_by(before, None, facts.look)}
    for states, steps in zip(seen, after, strict=True):
        done = {
            (*looks, look): _done_by(steps, after_look(did, look), look)
            for looks, did in done.items()
            for look in states
        }
    result: dict[tuple[PowerState | None, PowerState | None], Did] = {}
    for looks, did in done.items():
        first, second = (*looks, None, None)[:2]
        result[first, second] = did_of(did, kind=reading.kind, look=(facts.look, *looks)[-1], earlier=facts.done)
    return result


def _done_by(steps: Sequence[Step], done: Did | None, look: PowerState | None) -> Did | None:
    for step in steps:
        done = combined(done, did_by(step.action, look))
    return done


def _power_after(look: PowerState, steps: Sequence[Step]) -> PowerState:
    for step in steps:
        if isinstance(step.action, RevertMigration):
            look = PowerState.RUNNING if step.action.power_on else PowerState.SHUTDOWN
    return look


def _changes(steps: Sequence[Step]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for step in steps:
        if isinstance(step.action, Save):
            changes |= step.action.changes
    return changes


def _shared(sequences: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    shared: list[Any] = []
    for items in zip(*sequences, strict=False):
        if any(item != items[0] for item in items):
            break
        shared.append(items[0])
    return tuple(shared)
