"""Actions in progress, and those whose end is not written yet: it is written with the next entry of their instance."""

import time
from dataclasses import dataclass

from bringup.daemon.storage.journal.rows import ActionEnd


@dataclass(slots=True)
class _Doing:
    number: int
    began: float
    end: tuple[str, float, str | None] | None = None
    """Time of its end, seconds that it took, its error."""


class ActionsInProgress:
    """Actions of one run, of each instance one at a time."""

    def __init__(self) -> None:
        """Build it without any."""
        self._doing: dict[str, _Doing] = {}
        self._numbers: dict[str, int] = {}

    def clear(self) -> None:
        """Forget all of them: a run starts."""
        self._doing.clear()
        self._numbers.clear()

    def next_number(self, uuid: str) -> int:
        """Return the number of the next action of an instance."""
        number = self._numbers[uuid] = self._numbers.get(uuid, 0) + 1
        return number

    def began(self, uuid: str) -> None:
        """Note that the action with that number begins."""
        self._doing[uuid] = _Doing(self._numbers[uuid], time.monotonic())

    def ended(self, uuid: str, at: str, error: Exception | None) -> None:
        """Note the end of the action in progress, if there is one."""
        doing = self._doing.get(uuid)
        if doing is not None:
            text = None if error is None else f"{type(error).__name__}: {error}"
            doing.end = (at, round(time.monotonic() - doing.began, 6), text)

    def take_end(self, uuid: str, run: int, attempt: int) -> ActionEnd | None:
        """Return the end to be written; None: no action has ended since."""
        doing = self._doing.pop(uuid, None)
        return None if doing is None or doing.end is None else ActionEnd(*doing.end, run, uuid, attempt, doing.number)
