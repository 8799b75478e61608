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
