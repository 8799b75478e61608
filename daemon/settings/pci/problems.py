"""What is wrong with a device spec, field by field, before it becomes one error."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

LONGEST_VALUE = 80


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One wrong field: where it stands in the entry, what it holds, what would be right."""

    path: str
    """Such as ``.vendor_id``, ``[1].address.bus`` in an entry that is a list, or empty for the entry itself."""
    value: Any
    right: str

    def __str__(self) -> str:
        """Return it as a sentence."""
        return f"{self.path.lstrip('.') or 'the entry'} is {shown(self.value)}: give {self.right}"


class InvalidDeviceSpec(ValueError):
    """The entry is no device spec; ``problems`` has every wrong field of it."""

    def __init__(self, problems: tuple[FieldProblem, ...]) -> None:
        """Store at least one problem."""
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


class PciProblems:
    """Gathers the wrong fields of one entry, so that all are reported in one go."""

    def __init__(self) -> None:
        """Start at the entry itself, with no problem."""
        self._path = ""
        self._found: list[FieldProblem] = []

    @contextmanager
    def inside(self, path: str) -> Iterator[None]:
        """Add problems under this part of the entry within the block."""
        outer = self._path
        self._path = outer + path
        yield
        self._path = outer

    def add(self, value: Any, *, right: str) -> None:
        """Note that the field where we stand holds this value, and what would be right."""
        self._found.append(FieldProblem(self._path, value, right))

    def raise_if_any(self) -> None:
        """Raise ``InvalidDeviceSpec`` with everything that was added."""
        if self._found:
            raise InvalidDeviceSpec(tuple(self._found))


def shown(value: Any) -> str:
    """Write a value for a message: one line, bounded, printable whatever it holds."""
    try:
        text = json.dumps(value, default=str)
    except (ValueError, RecursionError, TypeError):
        text = type(value).__name__
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
