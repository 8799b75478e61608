"""An operator's word is written to the journal: by ``bringup release`` and by ``POST /release`` alike."""

from collections.abc import Sequence
from pathlib import Path

import anyio

from bringup.daemon.errors import JournalError, Temporary, UsageError
from bringup.daemon.service.assembly import utc_now
from bringup.daemon.storage.journal.history import read
from bringup.daemon.storage.journal.sqlite import SqliteJournal
from bringup.drivers.identifiers import uuid_in_any_spelling


async def release(path: Path, wanted: Sequence[str]) -> list[str]:
    """Release instances that the last run holds, all of them for none; give those that were.

    :raises UsageError: one of them is no UUID or is not held; nothing is released.
    :raises Temporary: the journal cannot be read or written now.
    """
    uuids = [uuid_of(text) for text in wanted]
    held = await anyio.to_thread.run_sync(_held, path)
    unknown = [uuid for uuid in uuids if uuid not in held]
    if unknown:
        raise UsageError(f"{', '.join(unknown)}: not held; held are: {', '.join(held) or 'none'}")
    chosen = uuids or held
    if chosen:
        await _write(path, chosen)
    return chosen


def _held(path: Path) -> list[str]:
    with read(path) as history:
        return [] if history is None else history.held()


def uuid_of(text: str) -> str:
    """Parse the UUID of an instance.

    :raises UsageError: it is none.
    """
    try:
        return uuid_in_any_spelling(text)
    except ValueError:
        raise UsageError(f"{text}: give the UUID of an instance") from None


async def _write(path: Path, uuids: Sequence[str]) -> None:
    journal = SqliteJournal(path, boot_id="", keep_runs=1, keep_days=1, now=utc_now)
    try:
        await journal.release(uuids, at=utc_now())
    except JournalError as error:
        raise Temporary("cannot release; nothing was changed") from error
    finally:
        await journal.close()
