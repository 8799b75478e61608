"""Kinds of value that an operator may set: types with their bounds and, in words, what would be right.

Annotations only: whoever takes such a value sees a plain number.  ``bringup.daemon.settings`` validates by them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final

from annotated_types import Ge, Gt, Le, Unit

WEEK: Final = 7 * 86400.0
_SPAN = 'seconds as a number, or a time span such as "90s", "2min", "1h 30min"'


@dataclass(frozen=True, slots=True)
class Right:
    """What would be right, as words that follow "give"."""

    text: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """How what an operator writes becomes a value; raises ``ValueError``."""

    parse: Callable[[Any], Any]


class WrongEntries(ValueError):
    """Some entries of a list are wrong; ``problems`` has the path of each, its value, what is right."""

    def __init__(self, problems: list[tuple[str, Any, str]]) -> None:
        """Store at least one problem."""
        super().__init__("wrong entries")
        self.problems = problems


Concurrency = Annotated[int, Ge(1), Le(1024), Right("a whole number from 1 to 1024")]
Count = Annotated[int, Ge(0), Le(100000), Right("a whole number from 0 to 100000")]
Amount = Annotated[int, Ge(0), Le(2**31 - 1), Right("a whole number from 0")]
Share = Annotated[float, Ge(0), Le(1), Right("a number from 0 to 1")]
Ratio = Annotated[float, Gt(0), Le(10000), Right("a number above 0, at most 10000")]
Seconds = Annotated[float, Gt(0), Le(WEEK), Unit("s"), Right(f"{_SPAN}; more than 0, at most a week")]
SecondsOrZero = Annotated[float, Ge(0), Le(WEEK), Unit("s"), Right(f"{_SPAN}; at least 0, at most a week")]
