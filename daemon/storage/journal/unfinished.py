"""What a journal knows of guests that should run and do not yet: for an import, which must not forget them."""

import sqlite3
from dataclasses import dataclass

from bringup.daemon.decisions.actions import ResumeStateOnHostBoot
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.storage.journal import queries
from bringup.daemon.storage.journal.begin_run import boot_of

NOT_BACK = (None, Kind.FAILED.value, Kind.HELD.value, Kind.DEFERRED.value, Kind.SUPERSEDED.value)
"""What came of an instance that has not had its turn; None: nothing yet."""
# One that was skipped says nothing of its guest; what came of it before that does.
_LAST = """
SELECT uuid, kind, json_extract(outcome, '$.problem[0]'), boot_id FROM instances
JOIN runs ON runs.number = run JOIN boots ON boots.number = boot
WHERE kind IS NULL OR kind != ? ORDER BY run
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """Which guests are not back, as far as the journal goes."""

    settled: bool = False
    """A run was ended on this boot, and it is known what was done."""
    not_back: frozenset[str] = frozenset()
    """UUIDs of those that this boot's runs could not bring back, or have not come to."""
    failed_starts: frozenset[str] = frozenset()
    """UUIDs of those whose last outcome, on whatever boot, was that their start failed."""


def owed_on(database: sqlite3.Connection, boot_id: str) -> Owed:
    """Tell what is owed on a boot."""
    boot = boot_of(database, boot_id)
    last = {uuid: rest for uuid, *rest in database.execute(_LAST, (Kind.SKIPPED.value,))}
    return Owed(
        settled=boot is not None and not boot.memory_lost and queries.is_settled(database, boot.number),
        not_back=frozenset(uuid for uuid, (kind, _verb, on) in last.items() if on == boot_id and kind in NOT_BACK),
        failed_starts=frozenset(
            uuid
            for uuid, (kind, verb, _on) in last.items()
            if kind == Kind.FAILED.value and verb == ResumeStateOnHostBoot.verb
        ),
    )
