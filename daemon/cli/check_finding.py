"""What comes of a check."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Status(Enum):
    """How a check went."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of a check."""

    check: str
    status: Status
    message: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    exit_code: int = 0


def with_doubts(check: str, message: str, facts: Mapping[str, Any], *doubts: str | None) -> Finding:
    """Return that all is well, or a warning that says each of ``doubts`` that there is."""
    sentences = [doubt for doubt in doubts if doubt]
    return Finding(check, Status.WARNING if sentences else Status.OK, "; ".join([message, *sentences]), facts)
