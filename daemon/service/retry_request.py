"""An operator wants something tried again: written to the journal, by ``bringup retry`` and ``POST /retry`` alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.errors import JournalError, Temporary, UsageError
from bringup.daemon.service.assembly import utc_now
from bringup.daemon.service.release_request import uuid_of
from bringup.daemon.storage.journal.history import read
from bringup.daemon.storage.journal.sqlite import SqliteJournal


@dataclass(frozen=True, slots=True)
class _Known:
    """What can be tried again."""

    open: tuple[str, ...]
    """What failed, was deferred or superseded in the last run, and what failed in an earlier one of this boot."""
    failed: frozenset[str]
    """All whose records a failure has changed, on whatever boot."""


async def retry(path: Path, boot_id: str, wanted: Sequence[str]) -> list[str]:
    """Have instances tried again, all that failed or were deferred for none; give those that will be.

    :raises UsageError: one of them is no UUID, or neither failed nor is deferred; nothing is written.
    :raises Temporary: the journal cannot be read or written now.
    """
    uuids = [uuid_of(text) for text in wanted]
    known = await anyio.to_thread.run_sync(_known, path, boot_id)
    unknown = [uuid for uuid in uuids if uuid not in known.failed and uuid not in known.open]
    if unknown:
        can_be = ", ".join(known.open) or "none"
        raise UsageError(f"{', '.join(unknown)}: neither failed nor deferred; what can be tried again: {can_be}")
    chosen = list(dict.fromkeys(uuids)) or list(known.open)
    if chosen:
        await _write(path, chosen)
    return chosen


def _known(path: Path, boot_id: str) -> _Known:
    with read(path) as history:
        if history is None:
            return _Known((), frozenset())
        failures = history.failures(boot_id)
        in_error = history.last_because("in_error")
        last = history.last_with(Kind.FAILED, Kind.DEFERRED, Kind.SUPERSEDED)
        # One that failed is passed over by the next run of the same boot: it is in ERROR.
        last += [uuid for uuid, failure in failures.items() if failure.is_of_boot and uuid in in_error]
        return _Known(tuple(dict.fromkeys(last)), frozenset(failures))


async def _write(path: Path, uuids: Sequence[str]) -> None:
    journal = SqliteJournal(path, boot_id="", keep_runs=1, keep_days=1, now=utc_now)
    try:
        await journal.retry(uuids, at=utc_now())
    except JournalError as error:
        raise Temporary("cannot have it tried again; nothing was changed") from error
    finally:
        await journal.close()
