"""What would happen to one instance: the tables, read without doing anything.

Where a look at the guest would decide and its result is not known, the tables are read for each power state that it
may give, and states that read alike stand together.  No I/O, no clock, no logger.  What a forecast is stands in
:mod:`bringup.daemon.decisions.forecast_values`; what does it is :mod:`bringup.daemon.recovery.init_instance`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bringup.daemon.decisions.actions import RevertMigration, Save
from bringup.daemon.decisions.did import after_look, combined, did_by, did_of
from bringup.daemon.decisions.forecast_values import Course, DidByLooks, Forecast
from bringup.daemon.decisions.from_evacuation import EVACUATED, has_come_back
from bringup.daemon.decisions.from_guest import FROM_FIRST_LOOK, FROM_SECOND_LOOK
from bringup.daemon.decisions.from_other_host import FOREIGN
from bringup.daemon.decisions.from_record import FROM_RECORD
from bringup.daemon.decisions.outcomes import Did, Kind, Problem
from bringup.daemon.decisions.remarks import remarks
from bringup.daemon.decisions.rules import Facts, Rule, Step, decide
from bringup.daemon.decisions.states import PowerState

# Those that run come first, as they do on a host.
POWER_STATES = (PowerState.RUNNING, *(state for state in PowerState if state is not PowerState.RUNNING))
_WHY = {
    id(table): {rule.name: rule.why for rule in table}
    for table in (EVACUATED, FOREIGN, FROM_RECORD, FROM_FIRST_LOOK, FROM_SECOND_LOOK)
}


@dataclass(frozen=True, slots=True)
class _Reading:
    """How far the tables have been read."""

    facts: Facts = field(compare=False)
    because: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    ends: bool = False
    kind: Kind = Kind.INITIALIZED
    told: tuple[Problem, ...] = ()
    done: Did | None = field(default=None, compare=False)
    before: Facts | None = field(default=None, compare=False)
    """The facts with the record as it was found; None: these."""

    def read(self, table: Sequence[Rule], look: PowerState | None = None) -> "_Reading":
        """Read one more table."""
        facts = self.facts if look is None else replace(self.facts, look=look)
        plan = decide(table, facts)
        changes = _changes(plan.steps)
        if changes:
            facts = replace(facts, instance=replace(facts.instance, **changes))
        sentences = _WHY[id(table)]
        return _Reading(
            facts,
            self.because + plan.because,
            self.why + tuple(sentences[name] for name in plan.because),
            self.steps + plan.steps,
            plan.ends,
            plan.kind,
            self.told + plan.warnings + (() if plan.problem is None else (plan.problem,)),
            _done(self.done, plan.steps, look, facts.look),
            self.before or self.facts,
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

    @property
    def did(self) -> Did:
        """What is done on the way that was read."""
        return did_of(self.done, kind=self.kind, look=self.facts.look, earlier=self.facts.done)

    def course(
        self,
        first: tuple[PowerState, ...] = (),
        second: tuple[PowerState, ...] = (),
        done: DidByLooks | None = None,
    ) -> Course:
        return Course(
            because=self.because,
            why=self.why,
            steps=self.steps,
            kind=self.kind,
            done={(None, None): self.did} if done is None else done,
            told=self.told
            + (remarks(self.before or self.facts, self.facts, self.kind, self.steps) if self.ends else ()),
            first_look=first,
            second_look=second,
        )


def foresee(
    facts: Facts,
    look: PowerState | None = None,
    second_look: PowerState | None = None,
    *,
    has_guest: bool | None = None,
) -> Forecast:
    """Read all tables.

    ``look`` and ``second_look`` are what the two looks at the guest give; None: not known.  ``has_guest`` says whether
    the hypervisor has the guest, which decides on evacuated instances only; None: not known.
    """
    if facts.is_foreign:
        return Forecast(
            tuple(
                reading.course(first, done={(state, None): _Reading(facts).read(FOREIGN, state).did for state in first})
                for first, reading in _Reading(facts).read_each(FOREIGN, look)
            )
        )
    evacuated = facts.evacuation is not None and not has_come_back(facts)
    if not evacuated:
        return Forecast(tuple(_own(facts, look, second_look)))
    ways: list[Course] = []
    if has_guest is not False:
        ways.append(replace(_Reading(facts).read(EVACUATED).course(), has_guest=True))
    if not has_guest:
        ways += [replace(course, has_guest=False) for course in _own(facts, look, second_look)]
    return Forecast(tuple(ways))


def _own(facts: Facts, look: PowerState | None, second_look: PowerState | None) -> Iterator[Course]:
    record = _Reading(facts).read(FROM_RECORD)
    if record.ends:
        yield record.course()
        return
    for first, reading in record.read_each(FROM_FIRST_LOOK, look):
        apart = {state: record.read(FROM_FIRST_LOOK, state) for state in first}
        if reading.ends:
            yield reading.course(first, done={(state, None): one.did for state, one in apart.items()})
            continue
        for second, whole in reading.read_each(FROM_SECOND_LOOK, second_look):
            done: DidByLooks = {
                (state, later): one.read(FROM_SECOND_LOOK, later).did
                for state, one in apart.items()
                for later in second
            }
            yield whole.course(first, second, done)


def undisturbed(forecast: Forecast, look: PowerState) -> Course:
    """Choose the way it goes if the guest is as ``look`` saw it and does nothing but what it is told."""
    for course in forecast.courses:
        after = _power_after(look, course.steps)
        if (not course.first_look or look in course.first_look) and (
            not course.second_look or after in course.second_look
        ):
            return replace(course, done=_known(course, look, after))
    raise ValueError(f"no course of this forecast begins with {look.name}")


def _known(course: Course, look: PowerState, after: PowerState) -> DidByLooks:
    key = look if course.first_look else None, after if course.second_look else None
    return {key: course.done[key]}


def _done(before: Did | None, steps: Sequence[Step], new: PowerState | None, look: PowerState | None) -> Did | None:
    done = before if new is None else after_look(before, new)
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
