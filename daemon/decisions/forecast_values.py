"""What a forecast is: the ways that it may go with one instance.

Values, made by :mod:`bringup.daemon.decisions.forecast`, put into words by :mod:`bringup.daemon.decisions.describe`.
No I/O, no clock, no logger.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from bringup.daemon.decisions.outcomes import Did, Kind, Problem
from bringup.daemon.decisions.rules import Step
from bringup.daemon.decisions.states import PowerState

DidByLooks = Mapping[tuple[PowerState | None, PowerState | None], Did]
"""What is done, by what the two looks at the guest give; None: there is no such look."""


class WhichLook(Enum):
    """Which look at the guest."""

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
    """What comes of it if nothing fails."""
    done: DidByLooks = field(default_factory=dict, compare=False)
    """What is done to it if nothing fails."""
    first_look: tuple[PowerState, ...] = ()
    """What the first look may give on this way; empty: there is none."""
    second_look: tuple[PowerState, ...] = ()
    """What the second look may give; empty: there is none."""
    told: tuple[Problem, ...] = ()
    """What a person should know."""
    has_guest: bool | None = None
    """Whether the hypervisor has the guest, where that decides; None where it does not."""

    @property
    def did(self) -> Did | None:
        """What is done to it; None: that depends on what the looks give."""
        different = set(self.done.values())
        return different.pop() if len(different) == 1 else None

    def deferred(self) -> "Course":
        """Return the course of an instance that lacks something that it needs."""
        return replace(self, steps=(), kind=Kind.DEFERRED, done={(None, None): Did.DEFERRED})


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
        """The look that decides how it goes on; None where none does."""
        if len({course.first_look for course in self.courses}) > 1:
            return WhichLook.FIRST
        return WhichLook.SECOND if len({course.second_look for course in self.courses}) > 1 else None


def _shared(sequences: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    shared: list[Any] = []
    for items in zip(*sequences, strict=False):
        if any(item != items[0] for item in items):
            break
        shared.append(items[0])
    return tuple(shared)
