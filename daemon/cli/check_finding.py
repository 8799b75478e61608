"""Findings of ``bringup check``: one value for each line of its output."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Status(Enum):
    """Result of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of a check with its message and, for ``--json``, its facts."""

    check: str
    status: Status
    message: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    exit_code: int = 0


def with_warnings(check: str, message: str, facts: Mapping[str, Any], *warnings: str | None) -> Finding:
    """Build a finding that is ok, or a warning if any of ``warnings`` is a sentence."""
    sentences = [warning for warning in warnings if warning]
    return Finding(check, Status.WARNING if sentences else Status.OK, "; ".join([message, *sentences]), facts)
