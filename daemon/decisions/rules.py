"""Types of the tables, and the function that reads them."""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from bringup.daemon.decisions.actions import Action, Save
from bringup.daemon.decisions.instances import Instance, Migration
from bringup.daemon.decisions.outcomes import Kind, Problem
from bringup.daemon.decisions.states import PowerState
from bringup.drivers.base import Transition
from bringup.drivers.needs import Need


class Withheld(enum.Enum):
    """What keeps a guest down that would be brought back otherwise."""

    ONCE_A_BOOT = "once a boot"
    AWAY_TOO_LONG = "away too long"
    METADATA = "metadata"
    UNKNOWN = "unknown"
    CLOCK = "clock"
    """The downtime of the host is known as soon as its clock is set."""


class Guard(enum.Enum):
    """What keeps an instance untouched until an operator approves; each has a row in the tables."""

    QUARANTINED = "quarantined"
    DESTRUCTION_HELD = "destruction_held"


@dataclass(frozen=True, slots=True)
class Hold:
    """A guard that requires operator approval first."""

    guard: Guard
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that a rule may depend on."""

    instance: Instance
    host: str
    """The name of this host."""
    resume_guests: bool = False
    """Whether guests that ran before are brought back (Nova's ``resume_guests_state_on_host_boot``)."""
    evacuation: Migration | None = None
    """The evacuation from this host, accepted, running or done."""
    live_migration: Migration | None = None
    """The live migration from this host that was running."""
    withheld: Withheld | None = None
    """Why it is not brought back, where the settings of the host alone would have it so."""
    wrong_metadata: str = ""
    """Which value of its metadata is invalid, and what would be right."""
    hold: Hold | None = None
    """A guard that holds it."""
    begun: frozenset[str] = frozenset()
    """Verbs that were begun by the run of this boot that was cut short: done, half done or not done."""
    done: frozenset[str] = frozenset()
    """Those of them that the journal knows to be done."""
    owes_elsewhere: bool = False
    """Ports and volumes that its record names are kept by other services, which must be notified when it is deleted."""
    deleted: bool = False
    """Its row is deleted, or gone: an evacuation is all that names it."""
    is_foreign: bool = False
    """Its guest is here, its record names another host, and no evacuation or migration says why."""
    fences_foreign: bool = False
    """Whether such a guest is powered off where it runs."""
    guest_gone: bool = False
    """The hypervisor has listed its guests, and this one is not among them."""
    moves: tuple[Migration, ...] = ()
    """Migrations away from this host that are not over, oldest first, without evacuations."""
    booted_at: float | None = None
    """When this host booted, in seconds since 1970; None: unknown."""
    look: PowerState | None = None
    """The last power state that was read of the guest; None before the first."""
    transition: Transition | None = None
    """The lifecycle event that is decided on; None: there is none."""

    @property
    def may_be_brought_back(self) -> bool:
        """Whether this guest, found down, would be started now, or later on this boot as far as is known."""
        return self.resume_guests or self.withheld not in (None, Withheld.ONCE_A_BOOT)


class Next(enum.Enum):
    """Where the reading continues after a row that holds."""

    END = "end"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row."""

    name: str
    when: Callable[[Facts], bool]
    then: Callable[[Facts], tuple[Action, ...]]
    next: Next
    why: str
    kind: Kind = Kind.INITIALIZED
    """Outcome of an instance whose reading ends here."""
    needs: tuple[Need, ...] = ()
    """What it waits for, where it is deferred."""
    tells: Callable[[Facts], Problem | None] | None = None
    """What an operator should know: why nothing is done where the kind says so, else a warning."""
    condition: str = ""
    """``when`` in plain English, for docs/rules.md."""


@dataclass(frozen=True, slots=True)
class Step:
    """One action and the name of the rule that gave it."""

    rule: str
    action: Action


@dataclass(frozen=True, slots=True)
class Plan:
    """What one table says: compared with ``==``, printed by ``plan`` and ``explain``, walked by the executor."""

    because: tuple[str, ...]
    steps: tuple[Step, ...]
    ends: bool
    kind: Kind
    warnings: tuple[Problem, ...] = ()
    """Notes for an operator."""
    problem: Problem | None = None
    """Why nothing more is done, where the last rule says so."""
    needs: tuple[Need, ...] = ()
    """What it waits for, where it is deferred."""
    rules: tuple[Rule, ...] = field(default=(), compare=False, repr=False)
    """Those that held, in order: the rows that ``because`` names."""


UNTROUBLED = (Kind.INITIALIZED, Kind.SKIPPED)
"""With these, what a rule tells is a warning."""


def decide(table: Sequence[Rule], facts: Facts) -> Plan:
    """Read a table from the top."""
    held: list[Rule] = []
    steps: list[Step] = []
    warnings: list[Problem] = []
    problem: Problem | None = None
    for rule in table:
        if not rule.when(facts):
            continue
        held.append(rule)
        told = None if rule.tells is None else rule.tells(facts)
        if told is not None and rule.kind in UNTROUBLED:
            warnings.append(told)
        else:
            problem = told
        for action in rule.then(facts):
            steps.append(Step(rule.name, action))
            facts = as_it_will_be(facts, action)
        if rule.next is Next.END:
            break
    else:
        rule = None
    return Plan(
        tuple(each.name for each in held),
        tuple(steps),
        ends=rule is not None,
        kind=Kind.INITIALIZED if rule is None else rule.kind,
        warnings=tuple(warnings),
        problem=problem,
        needs=() if rule is None else rule.needs,
        rules=tuple(held),
    )


def with_record(facts: Facts, instance: Instance) -> Facts:
    """Return the facts with a record; the same facts where it is theirs already: a copy costs as much as ten rules."""
    return facts if instance is facts.instance else replace(facts, instance=instance)


def with_look(facts: Facts, look: PowerState) -> Facts:
    """Return the facts with the power state that was read; the same facts where it has not changed."""
    return facts if look is facts.look else replace(facts, look=look)


def as_it_will_be(facts: Facts, action: Action) -> Facts:
    """Return the facts with the record as an action leaves it."""
    if isinstance(action, Save):
        return replace(facts, instance=replace(facts.instance, **action.changes))
    return facts


@dataclass(frozen=True, slots=True)
class FixedActions:
    """The same actions whatever the facts."""

    actions: tuple[Action, ...]

    def __call__(self, _facts: Facts) -> tuple[Action, ...]:
        """Return the actions."""
        return self.actions


def always(*actions: Action) -> FixedActions:
    """Build the ``then`` of a rule that returns the same actions whatever the facts."""
    return FixedActions(actions)


nothing = always()
"""The ``then`` of a rule that does nothing."""
